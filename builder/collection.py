"""Images that nothing needs any more: found by the names that builds gave them, and removed by those names alone.

An image without any name is one of these if it has the label that builds give (`unnamed`): a server that was killed, or
a build that was cancelled, may not have come to name it. What other programs have in the engine's store has other names
and labels, and is never touched. Base images and BuildKit's cache
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

from builder.engine import IsolatedClient, session

PRIVATE = "slipway.invalid"
"""A registry that cannot exist (RFC 6761), under which a build's base images have names in the engine's store."""
LAYERS = "layers-"
"""Start of the tags under which the classic builder holds the layers of unfinished builds, and of earlier stages."""
LABEL = "slipway.image-of"
"""The label of every image and layer that is built: the installation's id. Containers get it from their image, so it is
not the one by which an installation knows its containers."""


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


def repositories(engine: str | None) -> set[str]:
    """Return the repositories that the engine's images have names in."""
    with session(engine, threading.Event()) as client:
        return {name.rpartition(":")[0] for image in client.images() for name in image["RepoTags"] or ()}


def unnamed(engine: str | None, instance: str, kept: AbstractSet[str]) -> list[Unneeded]:
    """Return an installation's images that have no name, no layer above, and whose ids are not among `kept`.

    To be called while nothing is built: an unfinished build has such images.
    """
    with session(engine, threading.Event()) as client:
        return _unnamed(client, instance, kept)


def remove_unnamed(engine: str | None, instance: str, kept: AbstractSet[str]) -> list[Unneeded]:
    """Remove these images, and then those that they were made from, unless a container uses them; return them."""
    removed: list[Unneeded] = []
    with session(engine, threading.Event()) as client:
        # Layer by layer, as far as the labels go: the engine's own way, from parent to parent, does not end at a base
        # image without a name, which is its owner's.
        while True:
            gone = [each for each in _unnamed(client, instance, kept) if _removed(client, each)]
            if not gone:
                return removed
            removed += gone


def _unnamed(client: IsolatedClient, instance: str, kept: AbstractSet[str]) -> list[Unneeded]:
    found = client.images(filters={"dangling": True, "label": f"{LABEL}={instance}"})
    # To the engine, one that somebody has pulled by its digest has no name either.
    found = [image for image in found if all(name.startswith("<none>") for name in image["RepoDigests"] or ())]
    return [Unneeded(image["Id"], (), image["Size"]) for image in found if image["Id"] not in kept]


def _removed(client: IsolatedClient, image: Unneeded) -> bool:
    try:
        client.remove_image(image.id, noprune=True)
    except APIError:
        return False
    return True


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
