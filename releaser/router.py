"""What leads visitors to containers, as the rest of this room knows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from releaser.haproxy_backends import Routing
from releaser.route import Certificate, Route, Target, Targets
from releaser.services import Service


class Router(Protocol):
    """`releaser.haproxy.Proxy` tells what each method does; `releaser.published_ports.PublishedPorts` does without."""

    @property
    def publishes_ports(self) -> bool:
        """Whether it is the containers themselves that listen."""

    def published(self, route: Route, service: Service, index: int) -> str:
        """Return the HOST:PORT of the host at which a container is reached by itself, empty for none."""

    @property
    def running(self) -> bool:
        """Whether it is alive."""

    def answers(self) -> bool:
        """Whether it does its work."""

    def start(self) -> None:
        """Have it running."""

    def remove(self) -> None:
        """Stop it and forget all routes."""

    def routes(self) -> dict[int, Routing]:
        """Return what it leads to, by app."""

    def addresses(self) -> set[str]:
        """Return the addresses that requests are sent to."""

    def lead(self, app_id: int, route: Route, targets: Collection[Target] | Targets) -> None:
        """Let an app answer with just these containers."""

    def lead_all(self, wanted: Mapping[int, tuple[Route, Collection[Target] | Targets]]) -> None:
        """Let just these apps answer."""

    def forget(self, app_id: int) -> None:
        """Let an app answer nowhere."""

    def drain(self, app_id: int, seconds: float | None = None) -> None:
        """Wait until an app's former containers have no request in flight."""

    def check_certificate(self, certificate: Certificate) -> None:
        """Raise UsageError for a certificate that it would not take."""
