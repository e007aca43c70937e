"""What one operation does: get an artifact and release it, while branch, config and release move together.

Everything up to the commit point (`hooks.commit_point`) leaves what runs untouched and is undone when it fails. A crash
before that point is undone at the next start (`hooks.recovery`), after it completed.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from builder.options import DEFAULTS, Options
from hooks import commit_point, plan
from hooks.addresses import Addresses
from hooks.artifacts import Artifacts
from hooks.log import OperationLog
from hooks.plan import Plan
from hooks.release_hooks import ReleaseHooks
from hooks.release_plans import ReleasePlans
from hooks.repository import BareRepository
from hooks.steps import Steps
from releaser.release import Release as ReleasePlan
from releaser.releaser import Releaser
from releaser.route import Route
from store import operations
from store.apps import App
from store.data_folder import DataFolder
from store.database import Store
from store.errors import CancelledError, SlipwayError
from store.operations import Operation
from store.releases import Artifact

events = structlog.get_logger()


class Pipeline:
    """Runs operations, each on the thread that calls it."""

    def __init__(
        self,
        store: Store,
        folder: DataFolder,
        releaser: Releaser,
        addresses: Addresses,
        engine: str | None,
        builds: Options = DEFAULTS,
    ) -> None:
        self._store = store
        self._folder = folder
        self._releaser = releaser
        self._addresses = addresses
        self.engine = engine
        self._artifacts = Artifacts(store, folder, addresses, engine, builds)
        self._release_plans = ReleasePlans(store, addresses)

    def repository(self, app_id: int) -> BareRepository:
        """Return an app's repository."""
        return BareRepository(self._folder.repositories / f"{app_id}.git")

    def current_plan(self, connection: Connection, app: App) -> ReleasePlan | None:
        """Return what of an app should be running, None before its first release."""
        return self._release_plans.current(connection, app)

    def idle_route(self, connection: Connection, app: App) -> Route:
        """Return where an app without a release tells its visitors so."""
        return self._release_plans.idle_route(connection, app)

    def run(self, operation: Operation, log: OperationLog, cancelled: threading.Event, step: Steps) -> None:
        """Do what an operation asks for, and record that it succeeded.

        Raises SlipwayError if it failed, with everything as it was before.
        """
        with step("plan"):
            made = plan.make(self._store, self.repository(operation.app_id), operation, log)
        try:
            artifact = self._artifacts.get(made, log, cancelled, step)
            if artifact is None:
                commit_point.commit_config(self._store, made, step)
                log.line(f"-----> Config of {made.app.handle} changed; its first deploy will use it")
            else:
                self._release(made, artifact, log, cancelled, step)
        except CancelledError:
            raise
        except SlipwayError:
            self._after_failure(made, log, cancelled, step)
            raise

    def _release(
        self, plan: Plan, artifact: Artifact, log: OperationLog, cancelled: threading.Event, step: Steps
    ) -> None:
        plan = plan.with_services_of(artifact)
        makes_release = plan.request.type not in {"restart", "scale"}
        number = plan.number if makes_release or plan.current is None else plan.current.number
        release = replace(
            self._release_plans.of(
                plan.app, artifact, plan.config.values, number, plan.operation.id, plan.services, plan.endpoints
            ),
            force_zero_downtime=plan.request.force_zero_downtime,
        )
        hooks = ReleaseHooks(self._releaser, artifact.aptible_yml, log, cancelled)
        self._releaser.check(release)
        if plan.request.type in {"deploy", "rebuild"}:
            with step("before_deploy"):
                hooks.before_deploy(release)
        log.line(f"-----> Releasing version {number}")
        with self._releaser.rollout(release, say=log.line, cancelled=cancelled, step=step):
            commit_point.commit(self._store, plan, artifact, number if makes_release else None, step)
            self._conclude(plan, release, hooks, log, step)

    def _conclude(self, plan: Plan, release: ReleasePlan, hooks: ReleaseHooks, log: OperationLog, step: Steps) -> None:
        """Tell that it is done. Never raises: the release stands, and an exception here would undo its rollout."""
        try:
            log.line(f"-----> Released version {release.number} of {plan.app.handle}")
            with step("after_success"):
                hooks.after(plan.request.type, "success", release)
            log.line(self._addresses.url(plan.app), public=True)
        except Exception:
            events.exception("a release could not be told of", operation=plan.operation.id)
        # Whoever waits for the outcome need not wait for the old containers' last requests.
        log.close()

    def _after_failure(self, plan: Plan, log: OperationLog, cancelled: threading.Event, step: Steps) -> None:
        """Run the hooks of what runs on, the former release, and in its image."""
        if plan.current is None:
            return
        hooks = ReleaseHooks(self._releaser, plan.current.artifact.aptible_yml, log, cancelled)
        if not hooks.of(plan.request.type, "failure"):
            return
        with self._store.read() as connection:
            if operations.by_id(connection, plan.operation.id).finished:
                return  # it was only clearing up that failed
            former = self.current_plan(connection, plan.app)
        if former is not None:
            log.line("-----> Failed, as told at the end; what ran goes on running")
            with step("after_failure"):
                hooks.after(plan.request.type, "failure", former)
