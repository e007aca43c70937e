"""Images that nothing needs any more: found by the names that builds gave them, and removed by those names alone.

What other programs have in the engine's store has other names, and is never touched. Base images and BuildKit's cache
are not named: an image pulled by its digest looks the same whoever pulled it, and a step of the cache answers every
build with the same step. So they are collected only where the engine has no other users (`unneeded_bases`,
`prune_cache`).
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
LAYERS = "layers-"
"""Start of the tags under which the classic builder holds the layers of unfinished builds, and of earlier stages."""


@dataclass(frozen=True)
class Unneeded:
    """An image that no release needs."""

    id: str
    names: tuple[str, ...]
    size: int
    """Bytes, layers that other images share included."""


def unneeded(engine: str | None, repository: str, kept: AbstractSet[str], *, layers: bool = True) -> list[Unneeded]:
    """Return a repository's images whose ids are not among `kept`, and the names that a crash left to a build's bases.

    With `layers`, what the classic builder holds for the next build counts as not needed. To be called while nothing is
    built in that repository.
    """
    found = []
    with session(engine, threading.Event()) as client:
        for image in client.images():
            names = [name for name in image["RepoTags"] or () if not name.startswith(f"{PRIVATE}/")]
            own = [name for name in names if name.rpartition(":")[0] == repository and image["Id"] not in kept]
            own = [name for name in own if layers or not name.startswith(f"{repository}:{LAYERS}")]
            left = [name for name in image["RepoTags"] or () if name.startswith(f"{PRIVATE}/{repository}/")]
            if own or left:
                found.append(Unneeded(image["Id"], (*own, *left), image["Size"] if own else 0))
    return found


def unneeded_bases(engine: str | None, kept: AbstractSet[str]) -> list[Unneeded]:
    """Return images of a dedicated engine that were pulled by their digests, as builds pull, and are not among `kept`.

    `kept` are digests of manifests, and ids. What has a tag is somebody's own; what a container was made from stays.
    To be called while nothing is built.
    """
    found = []
    with session(engine, threading.Event()) as client:
        used = {container["ImageID"] for container in client.containers(all=True)}
        for image in client.images():
            names = tuple(name for name in image["RepoDigests"] or () if not name.startswith("<none>"))
            tagged = any(name != "<none>:<none>" for name in image["RepoTags"] or ())
            needed = image["Id"] in used | kept or any(name.rpartition("@")[2] in kept for name in names)
            if names and not tagged and not needed:
                found.append(Unneeded(image["Id"], names, image["Size"]))
    return found


def cache_beyond(engine: str | None, keep: int) -> Unneeded | None:
    """Return what BuildKit's cache has beyond `keep` bytes, None if nothing. What is in use does not count."""
    with session(engine, threading.Event()) as client:
        records = client.df().get("BuildCache") or []
    free = sum(record["Size"] for record in records if not record["InUse"] and not record["Shared"])
    return Unneeded("build cache", (), free - keep) if free > keep else None


def prune_cache(engine: str | None, keep: int) -> None:
    """Have the engine remove BuildKit's cache beyond `keep` bytes, what was not used for longest first."""
    with session(engine, threading.Event()) as client:
        client.prune_builds(keep_storage=keep, all=True)


def remove(engine: str | None, images: list[Unneeded]) -> None:
    """Take these names off; an image that has no other name is gone with the last one, unless a container uses it."""
    with session(engine, threading.Event()) as client:
        for image in images:
            for name in image.names:
                with suppress(APIError):
                    client.remove_image(name)
