"""What one operation does: get an artifact and release it, while branch, config and release move together.

Everything up to the commit point leaves what runs untouched and is undone when it fails. The commit point is one
transaction of the records; a crash before it is undone at the next start (`hooks.operations`), after it completed.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Connection

from builder.build import Source, build
from builder.credentials import REGISTRY_VARIABLES
from builder.image import Image
from builder.options import DEFAULTS, Options
from builder.pull import pull
from hooks.addresses import Addresses
from hooks.collection import repository_of
from hooks.log import OperationLog
from hooks.release_hooks import ReleaseHooks
from hooks.repository import DEPLOYING, BareRepository, Branches, StaleRefError
from hooks.request import Request
from releaser.release import Release as ReleasePlan
from releaser.releaser import Releaser
from store import apps, configs, endpoints, operations, releases, services
from store.apps import App
from store.config import Config, merge
from store.configs import ConfigVersion
from store.data_folder import DataFolder
from store.database import Store
from store.errors import CancelledError, SlipwayError, UsageError
from store.operations import Operation
from store.releases import Artifact, Release
from store.secret import Secret
from store.services import NEW_SERVICE, ServiceSettings

events = structlog.get_logger()

BUILD_SECONDS = 30 * 60.0
"""Time limit of a build, as in Aptible's contract; and of pulling an image that is deployed as it is."""

EXPOSE_REGISTRY_CREDENTIALS = "SLIPWAY_EXPOSE_REGISTRY_CREDENTIALS"
"""Config that lets containers have the credentials that images are pulled with."""


class NothingToReleaseError(SlipwayError):
    """The app has never been deployed, so there is nothing to run again."""


@dataclass(frozen=True)
class _Plan:
    """What an operation starts from."""

    operation: Operation
    request: Request
    app: App
    config: ConfigVersion
    """The config that it ends with; `id` None where it has to be added."""
    current: Release | None
    number: int
    """The number of the release that it makes."""
    branches: Branches
    """Where the deploying branches point."""
    services: Mapping[str, ServiceSettings]
    """The settings of services that it ends with."""
    hosts: Sequence[str]
    """Further host names of the app."""


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
        self._builds = builds

    def repository(self, app_id: int) -> BareRepository:
        """Return an app's repository."""
        return BareRepository(self._folder.repositories / f"{app_id}.git")

    def run(self, operation: Operation, log: OperationLog, cancelled: threading.Event) -> None:
        """Do what an operation asks for, and record that it succeeded.

        Raises SlipwayError if it failed, with everything as it was before.
        """
        plan = self._plan(operation, log)
        try:
            artifact = self._artifact(plan, log, cancelled)
            if artifact is None:
                self._keep_config(plan, log)
            else:
                self._release(plan, artifact, log, cancelled)
        except CancelledError:
            raise
        except SlipwayError:
            self._after_failure(plan, log, cancelled)
            raise

    def _plan(self, operation: Operation, log: OperationLog) -> _Plan:
        with self._store.read() as connection:
            request = Request.load(operations.request(connection, self._store.seal, operation))
            app = apps.by_id(connection, operation.app_id)
            before = configs.current(connection, self._store.seal, app)
            current = releases.current(connection, app)
            number = releases.next_number(connection, app)
            settled = dict(services.of_app(connection, app))
            hosts = endpoints.of_app(connection, app)
            config = before
            if request.release is not None:
                version = releases.by_number(connection, app, request.release).config_version_id
                config = configs.by_id(connection, self._store.seal, app, version)
        values = merge(config.values, request.changes)
        if values != config.values:
            config = ConfigVersion(None, config.number, values)
        if request.service is not None:
            settled[request.service] = settled.get(request.service, NEW_SERVICE).changed(request.settings)
        log.hide([before.values, request.changes, config.values])
        branches = self.repository(app.id).branches()
        return _Plan(operation, request, app, config, current, number, branches, settled, hosts)

    def _artifact(self, plan: _Plan, log: OperationLog, cancelled: threading.Event) -> Artifact | None:
        """Return what to release; None if only config changes, of an app that has no release."""
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
                return self._pull(plan, request.image, log, cancelled)
            case "deploy" if request.commit:
                return self._build(plan, request.commit, self._branch(plan), log, cancelled)
            case "deploy" | "rebuild" if current and current.artifact.image_name:
                pulled = self._pull(plan, request.image or current.artifact.image_name, log, cancelled)
                return replace(pulled, image_name=current.artifact.image_name)
            case "rebuild" if current and current.artifact.commit:
                return self._build(plan, current.artifact.commit, current.artifact.git_ref, log, cancelled)
        raise NothingToReleaseError(
            f"{plan.app.handle} has not been deployed yet; push to {self._addresses.git_repo(plan.app)}, "
            "or name an image with --docker-image"
        )

    def _after_failure(self, plan: _Plan, log: OperationLog, cancelled: threading.Event) -> None:
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
            hooks.after(plan.request.type, "failure", former)

    def _branch(self, plan: _Plan) -> str:
        """Return the deploying branch that will point at the commit: what it was pushed to, else the one in use."""
        if plan.request.push:
            return plan.request.push.ref
        if plan.current and plan.current.artifact.git_ref:
            return plan.current.artifact.git_ref
        in_use = [name for name, commit in plan.branches.items() if commit]
        return (in_use or [DEPLOYING[0]])[0]

    def _build(
        self, plan: _Plan, commit: str, branch: str | None, log: OperationLog, cancelled: threading.Event
    ) -> Artifact:
        repository = self.repository(plan.app.id)
        self._refuse_stale(plan, repository)
        with log.step(f"Building commit {commit[:12]}"):
            image = build(
                Source(repository.path, commit),
                engine=self.engine,
                config=plan.config.values,
                tag=self._tag(plan),
                labels={},  # with the classic builder each one is a step of the Dockerfile; the tag tells as much
                say=log.write,
                cancelled=cancelled,
                time_limit=BUILD_SECONDS,
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

    def _pull(self, plan: _Plan, name: str, log: OperationLog, cancelled: threading.Event) -> Artifact:
        with log.step(f"Pulling {name}"):
            image: Image = pull(
                name,
                engine=self.engine,
                config=plan.config.values,
                say=log.write,
                cancelled=cancelled,
                time_limit=BUILD_SECONDS,
                options=self._builds,
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
        """Return an app's own key for what builds keep, made of the config key; an app's id is never used again."""
        key = self._folder.config_key.read_bytes()
        return Secret(hmac.digest(key, f"build cache of app {app.id}".encode(), "sha256").hex())

    def _tag(self, plan: _Plan) -> str:
        return f"{repository_of(self._store, plan.app)}:{plan.operation.id}"

    @staticmethod
    def _refuse_stale(plan: _Plan, repository: BareRepository) -> None:
        """Raise StaleRefError if the branch has moved since the push began, and the push would lose that.

        It moves while a push waits for the deploy before it. A push that contains what was deployed meanwhile loses
        nothing, so it goes on.
        """
        if plan.request.push is None:
            return
        ref, old, new = plan.request.push.ref, plan.request.push.old, plan.request.push.new
        now = plan.branches[ref]
        if now is not None and now != old and not repository.contains(now, new):
            raise StaleRefError(
                f"{ref} moved to {now[:12]} while this push waited, and the push does not contain that; fetch first"
            )

    def plan_of(
        self,
        app: App,
        artifact: Artifact,
        values: Config,
        number: int,
        operation_id: int,
        settled: Mapping[str, ServiceSettings],
        hosts: Sequence[str],
    ) -> ReleasePlan:
        """Return what the releaser needs to know to run an artifact with a config."""
        hidden = () if _wanted(values, EXPOSE_REGISTRY_CREDENTIALS) else REGISTRY_VARIABLES
        return ReleasePlan(
            instance=self._store.instance(),
            app_id=app.id,
            app=app.handle,
            number=number,
            operation=operation_id,
            image=artifact.image,
            environment={name: value for name, value in values.items() if name not in hidden},
            procfile=artifact.procfile,
            settings={
                name: values[name].reveal()
                for name in ("RELEASE_HEALTHCHECK_TIMEOUT", "STRICT_HEALTH_CHECKS", "PORT")
                if name in values
            },
            route=self._addresses.route(app, hosts),
            git_ref=artifact.commit,
            services=settled,
        )

    def current_plan(self, connection: Connection, app: App) -> ReleasePlan | None:
        """Return what of an app should be running, None before its first release."""
        release = releases.current(connection, app)
        if release is None or app.serving_operation_id is None:
            return None
        config = configs.by_id(connection, self._store.seal, app, release.config_version_id)
        settled = services.of_app(connection, app)
        hosts = endpoints.of_app(connection, app)
        return self.plan_of(
            app, release.artifact, config.values, release.number, app.serving_operation_id, settled, hosts
        )

    def _release(self, plan: _Plan, artifact: Artifact, log: OperationLog, cancelled: threading.Event) -> None:
        makes_release = plan.request.type not in {"restart", "scale"}
        number = plan.number if makes_release or plan.current is None else plan.current.number
        release = replace(
            self.plan_of(plan.app, artifact, plan.config.values, number, plan.operation.id, plan.services, plan.hosts),
            force_zero_downtime=plan.request.force_zero_downtime,
        )
        hooks = ReleaseHooks(self._releaser, artifact.aptible_yml, log, cancelled)
        self._releaser.check(release)
        if plan.request.type in {"deploy", "rebuild"}:
            hooks.before_deploy(release)
        log.line(f"-----> Releasing version {number}")
        with self._releaser.rollout(release, say=log.line, cancelled=cancelled):
            self._commit(plan, artifact, number if makes_release else None)
            self._conclude(plan, release, hooks, log)

    def _conclude(self, plan: _Plan, release: ReleasePlan, hooks: ReleaseHooks, log: OperationLog) -> None:
        """Tell that it is done. Never raises: the release stands, and an exception here would undo its rollout."""
        try:
            log.line(f"-----> Released version {release.number} of {plan.app.handle}")
            hooks.after(plan.request.type, "success", release)
            log.line(self._addresses.url(plan.app), public=True)
        except Exception:
            events.exception("a release could not be told of", operation=plan.operation.id)
        # Whoever waits for the outcome need not wait for the old containers' last requests.
        log.close()

    def _commit(self, plan: _Plan, artifact: Artifact, number: int | None) -> None:
        """Move branches, config and release together. `number` None makes no release: the current one runs again."""
        repository = self.repository(plan.app.id)
        before, wanted = plan.branches, self._branches_after(artifact, plan.branches)
        if artifact.commit and number is not None:
            repository.hold("releases", number, artifact.commit)
        if wanted != before:
            with self._store.write() as connection:
                operations.remember_branches(connection, plan.operation, before)
        repository.move(before, wanted)
        try:
            with self._store.write() as connection:
                if number is not None:
                    config = plan.config
                    if config.id is None:
                        config = configs.add(connection, self._store.seal, plan.app, config.values)
                    releases.add(connection, plan.app, number, plan.operation, config, artifact)
                if plan.request.service is not None:
                    services.keep(connection, plan.app, plan.services)
                apps.serve_from(connection, plan.app, plan.operation.id)
                operations.finish(connection, plan.operation, "succeeded")
        except BaseException:
            repository.move(wanted, before)
            raise

    @staticmethod
    def _branches_after(artifact: Artifact, before: Branches) -> Branches:
        """Return where the deploying branches belong once `artifact` runs.

        An image that was deployed as it is comes from no commit, so no branch says that it runs; a later push of
        whatever commit is then a change again.
        """
        if artifact.commit is None or artifact.git_ref is None:
            return dict.fromkeys(before)
        return {**before, artifact.git_ref: artifact.commit}

    def _keep_config(self, plan: _Plan, log: OperationLog) -> None:
        with self._store.write() as connection:
            if plan.config.id is None:
                configs.add(connection, self._store.seal, plan.app, plan.config.values)
            operations.finish(connection, plan.operation, "succeeded")
        log.line(f"-----> Config of {plan.app.handle} changed; its first deploy will use it")


def _wanted(values: Config, name: str) -> bool:
    """Return whether a variable of the config says true. Raises UsageError for what is neither true nor false."""
    value = values[name].reveal().lower() if name in values else "false"
    if value not in {"true", "false"}:
        raise UsageError(f"{name} is neither true nor false; set it to one of them")
    return value == "true"
