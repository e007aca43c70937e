"""Images that nothing needs any more: found by the names that builds gave them, and removed by those names alone.

What other programs have in the engine's store has other names, and is never touched; nor are base images, which may be
somebody else's as well, nor BuildKit's own cache, which the engine collects by its own settings (`builder.gc` in
dockerd's configuration).
"""

from __future__ import annotations

import threading
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

from docker.errors import APIError

from builder.engine import session

PRIVATE = "slipway.invalid"
"""A registry that cannot exist (RFC 6761), under which a build's base images have names in the engine's store."""


@dataclass(frozen=True)
class Unneeded:
    """An image that no release needs."""

    id: str
    names: tuple[str, ...]
    size: int
    """Bytes, layers that other images share included."""


def unneeded(engine: str | None, repository: str, kept: AbstractSet[str]) -> list[Unneeded]:
    """Return a repository's images whose ids are not among `kept`, and the names that a crash left to a build's bases.

    To be called while nothing is built in that repository.
    """
    found = []
    with session(engine, threading.Event()) as client:
        for image in client.images():
            names = [name for name in image["RepoTags"] or () if not name.startswith(f"{PRIVATE}/")]
            own = [name for name in names if name.rpartition(":")[0] == repository and image["Id"] not in kept]
            left = [name for name in image["RepoTags"] or () if name.startswith(f"{PRIVATE}/{repository}/")]
            if own or left:
                found.append(Unneeded(image["Id"], (*own, *left), image["Size"] if own else 0))
    return found


def remove(engine: str | None, images: list[Unneeded]) -> None:
    """Take these names off; an image that has no other name is gone with the last one, unless a container uses it."""
    with session(engine, threading.Event()) as client:
        for image in images:
            for name in image.names:
                with suppress(APIError):
                    client.remove_image(name)
