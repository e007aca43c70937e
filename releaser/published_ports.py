"""Without a proxy: each app's container publishes its port on the host itself (Docker Engine API, PortBindings).

Two containers cannot hold one port, so the old one stops before the new one starts, and nobody answers in between. Only
the first container of the service that has the app's address is reached. There are no host names and no endpoints.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from releaser.haproxy_backends import Routing
from releaser.route import Certificate, Route, Target, Targets
from releaser.services import Service
from store.errors import UsageError


class PublishedPorts:
    """A router (`releaser.router`) that has nothing to do: the engine leads visitors to containers.

    `bind_host` is the address at which ports are published.
    """

    def __init__(self, bind_host: str) -> None:
        self._bind_host = bind_host

    publishes_ports = True
    running = True

    def published(self, route: Route, service: Service, index: int) -> str:
        """Return the HOST:PORT at which a container is reached, empty for one that is not."""
        reached = service.own and service.port is not None and index == 0 and route.port is not None
        return f"{self._bind_host}:{route.port}" if reached else ""

    def answers(self) -> bool:
        """Return True: what answers is the engine, which is asked elsewhere."""
        return True

    def start(self) -> None:
        """Start nothing."""

    def remove(self) -> None:
        """Remove nothing."""

    def routes(self) -> dict[int, Routing]:
        """Return nothing: routes are the containers' own."""
        return {}

    def addresses(self) -> set[str]:
        """Return nothing: no request goes to a container that is gone."""
        return set()

    def lead(self, app_id: int, route: Route, targets: Collection[Target] | Targets) -> None:
        """Do nothing: a container leads to itself from its start on."""

    def lead_all(self, wanted: Mapping[int, tuple[Route, Collection[Target] | Targets]]) -> None:
        """Do nothing."""

    def forget(self, app_id: int) -> None:
        """Do nothing."""

    def drain(self, app_id: int, seconds: float | None = None) -> None:
        """Do nothing: what a container has under way ends with its stop."""

    def check_certificate(self, certificate: Certificate) -> None:
        """Raise UsageError: nobody would show it."""
        raise UsageError("there is no proxy here (SLIPWAY_ROUTER=none), so nothing is served over TLS")
