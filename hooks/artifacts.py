"""Getting what an operation releases: built from a commit, pulled as it is, or that of a release which has run."""

from __future__ import annotations

import threading
from dataclasses import replace

from builder import collection
from builder.build import Source, build
from builder.options import DEFAULTS, Options
from builder.pull import pull
from hooks.addresses import Addresses
from hooks.collection import repository_of
from hooks.log import OperationLog
from hooks.plan import Plan
from hooks.repository import DEPLOYING, StaleRefError
from hooks.steps import Steps
from releaser.container import one_off_labels, one_off_name
from store import releases
from store.apps import App
from store.data_folder import DataFolder
from store.database import Store
from store.errors import SlipwayError
from store.releases import Artifact
from store.secret import Secret


class NothingToReleaseError(SlipwayError):
    """The app has never been deployed, so there is nothing to run again."""


class Artifacts:
    """Gets artifacts, each on the thread that asks."""

    def __init__(
        self, store: Store, folder: DataFolder, addresses: Addresses, engine: str | None, builds: Options = DEFAULTS
    ) -> None:
        self._store = store
        self._folder = folder
        self._addresses = addresses
        self._engine = engine
        self._builds = builds

    def get(self, plan: Plan, log: OperationLog, cancelled: threading.Event, step: Steps) -> Artifact | None:
        """Return what to release; None if only config changes, of an app that has no release.

        Raises SlipwayError: NothingToReleaseError, StaleRefError, and whatever a build or a pull raises.
        """
        request, current = plan.request, plan.current
        match request.type:
            case "rollback":
                with self._store.read() as connection:
                    return releases.by_number(connection, plan.app, request.release or 0).artifact
            case "configure" | "restart" | "scale" if current is not None:
                return current.artifact
            case "configure":
                return None
            case "deploy" if request.image:
                return self._pull(plan, request.image, log, cancelled, step)
            case "deploy" if request.commit:
                return self._build(plan, request.commit, _branch(plan), log, cancelled, step)
            case "deploy" | "rebuild" if current and current.artifact.image_name:
                pulled = self._pull(plan, request.image or current.artifact.image_name, log, cancelled, step)
                return replace(pulled, image_name=current.artifact.image_name)
            case "rebuild" if current and current.artifact.commit:
                return self._build(plan, current.artifact.commit, current.artifact.git_ref, log, cancelled, step)
        raise NothingToReleaseError(
            f"{plan.app.handle} has not been deployed yet; push to {self._addresses.git_repo(plan.app)}, "
            "or name an image with --docker-image"
        )

    def _build(
        self, plan: Plan, commit: str, branch: str | None, log: OperationLog, cancelled: threading.Event, step: Steps
    ) -> Artifact:
        _refuse_stale(plan)
        with step("build"), log.step(f"Building commit {commit[:12]}"):
            image = build(
                Source(plan.repository.path, commit),
                engine=self._engine,
                config=plan.config.values,
                tag=f"{repository_of(self._store, plan.app)}:{plan.operation.id}",
                labels={collection.LABEL: self._store.instance()},
                say=log.write,
                cancelled=cancelled,
                time_limit=self._builds.seconds,
                cache_key=self._cache_key(plan.app),
                options=self._builds,
                rebuild=plan.request.type == "rebuild",
            )
        return Artifact(
            image=image.id,
            commit=commit,
            git_ref=branch,
            procfile=image.procfile,
            aptible_yml=image.aptible_yml,
            bases=image.bases,
        )

    def _pull(self, plan: Plan, name: str, log: OperationLog, cancelled: threading.Event, step: Steps) -> Artifact:
        instance = self._store.instance()
        with step("pull"), log.step(f"Pulling {name}"):
            image = pull(
                name,
                engine=self._engine,
                config=plan.config.values,
                say=log.write,
                cancelled=cancelled,
                time_limit=self._builds.seconds,
                options=self._builds,
                container_name=one_off_name(instance, plan.app.handle),
                container_labels=one_off_labels(instance, plan.app.id, "read-files"),
            )
        return Artifact(
            image=image.id,
            image_name=name,
            image_digest=image.reference,
            procfile=image.procfile,
            aptible_yml=image.aptible_yml,
            bases=image.bases,
        )

    def _cache_key(self, app: App) -> Secret:
        """Return an app's own key for what builds keep; an app's id is never used again."""
        return self._store.own_key(f"build cache of app {app.id}")


def _branch(plan: Plan) -> str:
    """Return the deploying branch that will point at the commit: what it was pushed to, else the one in use."""
    if plan.request.push:
        return plan.request.push.ref
    if plan.current and plan.current.artifact.git_ref:
        return plan.current.artifact.git_ref
    in_use = [name for name, commit in plan.branches.items() if commit]
    return (in_use or [DEPLOYING[0]])[0]


def _refuse_stale(plan: Plan) -> None:
    """Raise StaleRefError if the branch has moved since the push began, and the push would lose that.

    It moves while a push waits for the deploy before it. A push that contains what was deployed meanwhile loses
    nothing, so it goes on.
    """
    if plan.request.push is None:
        return
    ref, old, new = plan.request.push.ref, plan.request.push.old, plan.request.push.new
    now = plan.branches[ref]
    if now is not None and now != old and not plan.repository.contains(now, new):
        raise StaleRefError(
            f"{ref} moved to {now[:12]} while this push waited, and the push does not contain that; fetch first"
        )
