"""While the server runs: what runs is compared with the records, and made to agree with them again.

An app that has an operation under way is left to that operation.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from hooks.pipeline import Pipeline
from hooks.queue import Queue
from hooks.request import Request
from releaser.engine import EngineUnreachableError, ImageMissingError
from releaser.release import Release as ReleasePlan
from releaser.releaser import Releaser
from releaser.route import Route
from store import apps, operations, releases
from store.apps import App
from store.database import Store
from store.errors import SlipwayError
from store.operations import Operation

log = structlog.get_logger()

PATIENCE_SECONDS = 3.0
"""How long whoever wants an app mended waits for an operation that is about to end, or for another look at the app.
Whoever has just pushed comes while the former release is drained."""


class Upkeep:
    """Keeps what runs as the records say. `open_operation` opens one, as `hooks.operations` does."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        pipeline: Pipeline,
        releaser: Releaser,
        open_operation: Callable[[App, int | None, Request], Operation],
    ) -> None:
        self._store = store
        self._queue = queue
        self._pipeline = pipeline
        self._releaser = releaser
        self._open = open_operation
        self._put_off: set[int] = set()
        """Apps whose turn came while they had an operation."""
        self._made_again: set[int] = set()
        """Apps whose missing image was asked for again while the server ran."""

    def restore(self) -> None:
        """Make what runs agree with the records, while no operation is under way.

        Raises SlipwayError if the engine or the proxy cannot be used; operations may run then, and say so themselves.
        """
        with self._queue.paused():
            wrong = self._releaser.restore(*self._current())
        for app_id, error in wrong.items():
            log.error("an app cannot be brought back", app=app_id, error=str(error))
            if isinstance(error, ImageMissingError):
                self._make_again(app_id)

    def reconcile(self) -> None:
        """Compare what runs with the records, app by app, and mend what differs.

        Operations go on meanwhile; an app that has one is left to it. Raises SlipwayError if the engine or the proxy
        cannot be used.
        """
        self._releaser.keep_proxy()
        with self._store.read() as connection:
            everything = apps.everywhere(connection)
        for app in everything:
            try:
                self.mend(app, patience=0.0)
            except EngineUnreachableError:
                raise
            except SlipwayError as error:
                log.error("what an app runs cannot be mended", app=app.handle, error=str(error))
                if isinstance(error, ImageMissingError) and app.id not in self._made_again:
                    self._made_again.add(app.id)  # once is enough: a build that fails would fail each minute
                    self._make_again(app.id)

    @property
    def overdue(self) -> bool:
        """Whether an app's turn to be mended came while it had an operation."""
        return bool(self._put_off)

    def mend(self, app: App, patience: float = PATIENCE_SECONDS) -> None:
        """Make what runs of one app agree with its records, unless an operation is just doing so.

        An operation that ends within `patience` seconds is waited for. What was recorded during a longer one is then
        `overdue`. Raises SlipwayError.
        """
        with self._queue.idle(app.id, patience) as idle:
            if not idle:
                self._put_off.add(app.id)
                return
            self._put_off.discard(app.id)
            with self._store.read() as connection:
                # Read anew: an operation may have ended since the apps were listed.
                app = apps.by_id(connection, app.id)
                if app.deleted_at is not None:
                    return
                plan = self._pipeline.current_plan(connection, app)
                route = self._pipeline.idle_route(connection, app)
            if plan is not None:
                self._releaser.mend(plan)
            else:
                self._releaser.announce(app.id, route)

    def _make_again(self, app_id: int) -> None:
        """Build or pull the image of the current release again: this engine never had it, or it was pruned."""
        with self._store.read() as connection:
            app = apps.by_id(connection, app_id)
            release = releases.current(connection, app)
        if release is not None:
            # The very image that ran, not what its name may mean by now.
            self._open(app, None, Request("rebuild", image=release.artifact.image_digest))

    def _current(self) -> tuple[list[ReleasePlan], dict[int, Route]]:
        """Return what should be running, and where the apps are that have no release.

        What is just being deprovisioned is neither.
        """
        plans: list[ReleasePlan] = []
        idle: dict[int, Route] = {}
        with self._store.read() as connection:
            going = {each.app_id for each in operations.unfinished(connection) if each.type == "deprovision"}
            for app in apps.everywhere(connection):
                if app.id in going:
                    continue
                plan = self._pipeline.current_plan(connection, app)
                if plan is None:
                    idle[app.id] = self._pipeline.idle_route(connection, app)
                else:
                    plans.append(plan)
        return plans, idle
