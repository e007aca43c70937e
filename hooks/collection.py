"""Collecting images: which ones no release needs any more."""

from __future__ import annotations

from builder import collection
from builder.collection import Unneeded
from hooks.queue import Queue
from store import apps, releases
from store.apps import App
from store.database import Store

KEPT = 10
"""Releases of each app whose images stay, so that they can be rolled back to."""


def repository_of(store: Store, app: App) -> str:
    """Return the repository that an app's images have their names in, on the engine.

    Named by the app's id, which no other app ever gets, while a handle may be given to another app.
    """
    return f"slipway-{store.instance()}/app-{app.id}"


def forget(store: Store, engine: str | None, app: App) -> None:
    """Remove every image of an app. Raises EngineUnreachableError."""
    collection.remove(engine, collection.unneeded(engine, repository_of(store, app), frozenset()))


def collect(store: Store, queue: Queue, engine: str | None, keep: int, *, dry_run: bool) -> list[Unneeded]:
    """Remove the images of every app but those of its newest `keep` releases, and return what was removed.

    Of an app that was deprovisioned, nothing is kept. An app that something runs for is passed over, since a build may
    be about to use an image again; so is everything that this installation did not build. With `dry_run` nothing is
    removed. Raises EngineUnreachableError.
    """
    found: list[Unneeded] = []
    with store.read() as connection:
        everywhere = [*apps.everywhere(connection), *apps.deprovisioned(connection)]
    for app in everywhere:
        with queue.idle(app.id) as free:
            if not free:
                continue
            with store.read() as connection:
                kept = {release.artifact.image for release in releases.of_app(connection, app, limit=keep)}
            images = collection.unneeded(engine, repository_of(store, app), kept)
            if not dry_run:
                collection.remove(engine, images)
            found += images
    return found
