"""Where an app answers: its own address, and the endpoints that it has beside it. Plain values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from store.errors import UsageError
from store.secret import Secret

HIGHEST_PORT = 65535
"""TCP's port field has 16 bits (RFC 9293 section 3.1)."""

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")
"""A host name as RFC 1123 section 2.1 has it, in lower case."""


def host_name(text: str) -> str:
    """Return a host name as routes have it, in lower case; raises UsageError for what is none."""
    lower = text.lower()
    if not _HOST_NAME.match(lower):
        raise UsageError(f"{text[:253]!r} is not a host name; write one like shop.example.com")
    return lower


class Target(NamedTuple):
    """A container's IPv4 address and port."""

    address: str
    port: int


class Destination(NamedTuple):
    """Which containers a way in leads to, and how."""

    service: str | None = None
    """The service's name; None is the one that answers at the app's own address."""
    port: int | None = None
    """The port in the container; None is the one that the service is asked for its health at."""
    tcp: bool = False
    """Whether bytes are passed on as they are, instead of HTTP requests."""


OWN = Destination()
"""Where an app's own address leads."""

Targets = Mapping[Destination, Collection[Target]]
"""The containers behind each destination of a route; one that is missing has none."""


@dataclass(frozen=True)
class Certificate:
    """A TLS certificate with its chain and private key."""

    fingerprint: str
    """SHA-256 of the bundle, in hexadecimal; all that is shown or compared."""
    bundle: Secret | None = field(default=None, compare=False)
    """PEM. None where only the fingerprint is known, as in what the proxy remembers."""

    @classmethod
    def of(cls, bundle: Secret) -> Certificate:
        """Return the certificate of a PEM bundle."""
        return cls(hashlib.sha256(bundle.reveal().encode()).hexdigest(), bundle)


@dataclass(frozen=True)
class Endpoint:
    """One more way into an app: a host name on the shared ports, or a TCP port of its own.

    Raises ValueError unless exactly one of the two is given.
    """

    host: str | None = None
    tcp_port: int | None = None
    service: str | None = None
    container_port: int | None = None
    certificate: Certificate | None = None
    """With one, the host name is served over TLS too."""
    redirect: bool = False
    """Whether requests over plain HTTP are sent to HTTPS."""

    def __post_init__(self) -> None:
        if (self.tcp_port is None) == (self.host is None):
            raise ValueError("an endpoint is either a host name or a TCP port")
        if self.host is not None and not _HOST_NAME.match(self.host):
            raise ValueError(f"{self.host!r} is no host name")
        for port in (self.tcp_port, self.container_port):
            if port is not None and not 1 <= port <= HIGHEST_PORT:
                raise ValueError(f"{port} is no TCP port")

    @property
    def destination(self) -> Destination:
        """Where it leads."""
        return Destination(self.service, self.container_port, self.tcp_port is not None)


@dataclass(frozen=True)
class Route:
    """Where an app answers: at a port of its own on the proxy, or at a host name on the proxy's shared HTTP port.

    Raises ValueError unless exactly one of the two is given, and is a TCP port or a host name in lower case.
    """

    port: int | None = None
    host: str | None = None
    endpoints: tuple[Endpoint, ...] = ()

    def __post_init__(self) -> None:
        if (self.port is None) == (self.host is None):
            raise ValueError("a route is either a port or a host name")
        if self.port is not None and not 1 <= self.port <= HIGHEST_PORT:
            raise ValueError(f"{self.port} is no TCP port")
        if self.host is not None and not _HOST_NAME.match(self.host):
            raise ValueError(f"{self.host!r} is no host name")

    @property
    def hosts(self) -> dict[str, Endpoint | None]:
        """All host names; the value tells more about one that was made as an endpoint."""
        own: dict[str, Endpoint | None] = {} if self.host is None else {self.host: None}
        return own | {each.host: each for each in self.endpoints if each.host is not None}

    @property
    def ports(self) -> set[int]:
        """All TCP ports that nobody else may have."""
        own = set() if self.port is None else {self.port}
        return own | {each.tcp_port for each in self.endpoints if each.tcp_port is not None}

    @property
    def destinations(self) -> list[Destination]:
        """Where it leads: the app's own service first, then what endpoints name beside it."""
        return list(dict.fromkeys([OWN, *(endpoint.destination for endpoint in self.endpoints)]))

    def shared(self, other: Route) -> list[str]:
        """Return where there are requests that both would take, in words."""
        return [*(set(self.hosts) & set(other.hosts)), *(f"port {port}" for port in self.ports & other.ports)]
