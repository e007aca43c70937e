"""What the releaser needs to know to run an artifact with a config, made from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from builder.credentials import REGISTRY_VARIABLES
from hooks.addresses import Addresses
from releaser.release import Release as ReleasePlan
from releaser.route import Route
from store import configs, endpoints, releases, services
from store.apps import App
from store.config import Config
from store.database import Store
from store.endpoints import Endpoint
from store.errors import UsageError
from store.releases import Artifact
from store.services import ServiceSettings

EXPOSE_REGISTRY_CREDENTIALS = "SLIPWAY_EXPOSE_REGISTRY_CREDENTIALS"
"""Config that lets containers have the credentials that images are pulled with."""


class ReleasePlans:
    """Says what should run."""

    def __init__(self, store: Store, addresses: Addresses) -> None:
        self._store = store
        self._addresses = addresses

    def of(
        self,
        app: App,
        artifact: Artifact,
        values: Config,
        number: int,
        operation_id: int,
        settled: Mapping[str, ServiceSettings],
        ways_in: Sequence[Endpoint],
    ) -> ReleasePlan:
        """Return what an artifact is as a release `number`, whose containers are made by the operation."""
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
            route=self._addresses.route(app, ways_in),
            git_ref=artifact.commit,
            services=settled,
        )

    def current(self, connection: Connection, app: App) -> ReleasePlan | None:
        """Return what of an app should be running, None before its first release."""
        release = releases.current(connection, app)
        if release is None or app.serving_operation_id is None:
            return None
        config = configs.by_id(connection, self._store.seal, app, release.config_version_id)
        settled = services.of_app(connection, app)
        ways_in = endpoints.of_app(connection, self._store.seal, app)
        return self.of(app, release.artifact, config.values, release.number, app.serving_operation_id, settled, ways_in)

    def idle_route(self, connection: Connection, app: App) -> Route:
        """Return where an app without a release tells its visitors so."""
        return self._addresses.route(app, endpoints.of_app(connection, self._store.seal, app))


def _wanted(values: Config, name: str) -> bool:
    """Return whether a variable of the config says true. Raises UsageError for what is neither true nor false."""
    value = values[name].reveal().lower() if name in values else "false"
    if value not in {"true", "false"}:
        raise UsageError(f"{name} is neither true nor false; set it to one of them")
    return value == "true"
