"""What an operation starts from: one look at the records and the branches, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hooks.log import OperationLog
from hooks.repository import BareRepository, Branches
from hooks.request import Request
from releaser import services as processes
from store import apps, configs, endpoints, operations, releases, services
from store.apps import App
from store.config import merge
from store.configs import ConfigVersion
from store.database import Store
from store.endpoints import Endpoint
from store.errors import UsageError
from store.operations import Operation
from store.releases import Artifact, Release
from store.services import NEW_SERVICE, ServiceSettings


@dataclass(frozen=True)
class Plan:
    """What an operation starts from, and what of it is known already that it ends with."""

    operation: Operation
    request: Request
    app: App
    repository: BareRepository
    config: ConfigVersion
    """The config that it ends with; `id` None where it has to be added."""
    current: Release | None
    number: int
    """The number of the release that it makes."""
    branches: Branches
    """Where the deploying branches point."""
    services: Mapping[str, ServiceSettings]
    """The settings of services that it ends with."""
    endpoints: Sequence[Endpoint]
    """The ways in that the app has beside its own address."""

    def with_services_of(self, artifact: Artifact) -> Plan:
        """Return the plan with settings for every service that `artifact` has; raises ProcfileError.

        Those that the app never had begin as the request says, or else as every new service does.
        """
        first = self.request.settings if self.request.service is None else {}
        had = processes.names(self.current.artifact.procfile) if self.current else {}
        new = {
            name: NEW_SERVICE if name in had else NEW_SERVICE.changed(first)
            for name in processes.names(artifact.procfile)
        }
        return replace(self, services={**new, **self.services})


class NoSuchServiceError(UsageError):
    """The app's current release has no service of that name."""


def require_service(app: App, current: Release, name: str) -> None:
    """Raise NoSuchServiceError if a service is none of an app's current release."""
    known = processes.names(current.artifact.procfile)
    if name not in known:
        raise NoSuchServiceError(f"{app.handle} has no service {name[:63]!r}; it has {', '.join(known)}")


def make(store: Store, repository: BareRepository, operation: Operation, log: OperationLog) -> Plan:
    """Return the plan of an operation. From now on its log hides what the config before and after it holds.

    Raises NoSuchServiceError for a service that went with a release while the operation waited.
    """
    with store.read() as connection:
        request = Request.load(operations.request(connection, store.seal, operation))
        app = apps.by_id(connection, operation.app_id)
        before = configs.current(connection, store.seal, app)
        current = releases.current(connection, app)
        number = releases.next_number(connection, app)
        settled = dict(services.of_app(connection, app))
        ways_in = endpoints.of_app(connection, store.seal, app)
        config = before
        if request.release is not None:
            version = releases.by_number(connection, app, request.release).config_version_id
            config = configs.by_id(connection, store.seal, app, version)
    values = merge(config.values, request.changes)
    if values != config.values:
        config = ConfigVersion(None, config.number, values)
    if request.service is not None:
        if current is not None:
            require_service(app, current, request.service)
        settled[request.service] = settled.get(request.service, NEW_SERVICE).changed(request.settings)
    log.hide([before.values, request.changes, config.values])
    return Plan(operation, request, app, repository, config, current, number, repository.branches(), settled, ways_in)
