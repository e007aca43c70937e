"""Collecting images: which ones no release needs any more, and when that is looked at.

After an operation its own app is looked at, since it has just made an older release one too many; each minute what has
no name, and what apps have left that are gone; once a day every app, for what crashes and failed deploys have left; and
every app at once when the engine's disk gets full.
"""

from __future__ import annotations

import time

import structlog

from builder import collection, disk
from builder.collection import Unneeded
from hooks.keeping import Policy
from hooks.queue import Queue
from store import apps, releases
from store.apps import App
from store.database import Store
from store.errors import SlipwayError
from store.releases import Artifact

log = structlog.get_logger()

DAY_SECONDS = 24 * 60 * 60.0
LOOK_SECONDS = 60.0
"""How often the engine is asked how full its disk is, and whether anything is left over that nobody can want."""
FULL_SECONDS = 15 * 60.0
"""How long a disk that is still too full is left alone: what could be removed has been removed."""


def repository_of(store: Store, app: App) -> str:
    """Return the repository that an app's images have their names in, on the engine.

    Named by the app's id, which no other app ever gets, while a handle may be given to another app.
    """
    return f"slipway-{store.instance()}/app-{app.id}"


def forget(store: Store, engine: str | None, app: App) -> None:
    """Remove every image of an app. Raises EngineUnreachableError."""
    collection.remove(engine, collection.unneeded(engine, repository_of(store, app), frozenset()))


class Collector:
    """Collects for one server. Nothing of other programs on the engine is ever touched, unless it is `dedicated`."""

    def __init__(self, store: Store, queue: Queue, engine: str | None, policy: Policy) -> None:
        self._store = store
        self._queue = queue
        self._engine = engine
        self._policy = policy
        # Not at the start, when there is enough else to do.
        self._collected = self._looked = time.monotonic()

    def collect(
        self, keep: int | None = None, *, dry_run: bool = False, layers: bool = True, cache: int | None = None
    ) -> list[Unneeded]:
        """Remove what no app's newest `keep` releases need, and return what was removed.

        Of an app that was deprovisioned, nothing is kept. An app that something runs for is passed over, since a build
        may be about to use an image again; so are images without a name, and on a dedicated engine base images and the
        cache, while anything runs.
        `cache` is how many bytes of that stay, `layers` whether what the classic builder holds for an app's next build
        goes. With `dry_run` nothing is removed. Raises EngineUnreachableError.
        """
        found: list[Unneeded] = []
        with self._store.read() as connection:
            everywhere = [*apps.everywhere(connection), *apps.deprovisioned(connection)]
        for app in everywhere:
            with self._queue.idle(app.id) as free:
                if free:
                    found += self._of_app(app, keep, dry_run=dry_run, layers=layers)
        with self._queue.quiet() as free:
            if free:
                found += self._without_name(keep, dry_run=dry_run)
                if self._policy.dedicated:
                    found += self._of_everybody(keep, self._policy.cache if cache is None else cache, dry_run=dry_run)
        return found

    def after(self, app_id: int) -> None:
        """Collect for an app whose operation has just succeeded, in its turn. Raises nothing."""
        try:
            with self._store.read() as connection:
                app = apps.by_id(connection, app_id)
            _tell(self._of_app(app, None, dry_run=False, layers=False), app=app.handle)
        except SlipwayError as error:
            log.warning("images cannot be collected", error=str(error))

    def look(self) -> None:
        """Collect everything if it is time, or the engine's disk too full. To be called again and again."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._tidy()
            percent = disk.used(self._engine) or 0
            full = percent >= self._policy.full
            if now - self._collected < (FULL_SECONDS if full else DAY_SECONDS):
                return
            self._collected = now
            _tell(self.collect(layers=full, cache=0 if full else None), disk_percent=percent)
        except SlipwayError as error:
            log.warning("images cannot be collected", error=str(error))

    def _of_app(self, app: App, keep: int | None, *, dry_run: bool, layers: bool) -> list[Unneeded]:
        with self._store.read() as connection:
            newest = releases.of_app(connection, app, limit=keep or self._policy.keep)
        kept = {release.artifact.image for release in newest}
        images = collection.unneeded(self._engine, repository_of(self._store, app), kept, layers=layers)
        if not dry_run:
            collection.remove(self._engine, images)
        return images

    def _tidy(self) -> None:
        """Remove what is left of apps that are gone, and what the last kill or cancelled build has left without a name.

        The first is there if the engine was not when they went. The second is looked at only while nothing runs.
        """
        with self._store.read() as connection:
            gone = {repository_of(self._store, app): app for app in apps.deprovisioned(connection)}
        for repository in collection.repositories(self._engine) & gone.keys():
            app = gone[repository]
            with self._queue.idle(app.id) as free:
                if free:
                    _tell(self._of_app(app, None, dry_run=False, layers=True), app=app.handle)
        with self._queue.quiet() as free:
            if free:
                _tell(self._without_name(None, dry_run=False))

    def _without_name(self, keep: int | None, *, dry_run: bool) -> list[Unneeded]:
        instance = self._store.instance()
        kept = {artifact.image for artifact in self._newest(keep)}
        what = collection.unnamed if dry_run else collection.remove_unnamed
        return what(self._engine, instance, kept)

    def _newest(self, keep: int | None) -> list[Artifact]:
        """Return what the newest releases of all apps run, or have run."""
        with self._store.read() as connection:
            return [
                release.artifact
                for app in apps.everywhere(connection)
                for release in releases.of_app(connection, app, limit=keep or self._policy.keep)
            ]

    def _of_everybody(self, keep: int | None, cache: int, *, dry_run: bool) -> list[Unneeded]:
        newest = self._newest(keep)
        digests = {digest for artifact in newest for digest in (artifact.bases or {}).values()}
        found = collection.unneeded_bases(self._engine, digests | {artifact.image for artifact in newest})
        if not dry_run:
            collection.remove(self._engine, found)
        beyond = collection.cache_beyond(self._engine, cache)
        if beyond is not None:
            found.append(beyond)
            if not dry_run:
                collection.prune_cache(self._engine, cache)
        return found


def _tell(images: list[Unneeded], **about: object) -> None:
    if images:
        log.info("images collected", images=len(images), bytes=sum(image.size for image in images), **about)
