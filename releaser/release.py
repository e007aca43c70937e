"""What is to run: one release of one app, and where it answers.

Plain values. Whoever keeps the records fills them in; this room only makes them true on an engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from store.errors import UsageError
from store.secret import Secret
from store.services import ServiceSettings

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


@dataclass(frozen=True)
class Route:
    """Where an app answers: at a port of its own on the proxy, or at a host name on the proxy's shared HTTP port.

    Raises ValueError unless exactly one of the two is given, and is a TCP port or a host name in lower case.
    """

    port: int | None = None
    host: str | None = None
    also: tuple[str, ...] = ()
    """Further host names on the shared port."""

    def __post_init__(self) -> None:
        if (self.port is None) == (self.host is None):
            raise ValueError("a route is either a port or a host name")
        if self.port is not None and not 1 <= self.port <= HIGHEST_PORT:
            raise ValueError(f"{self.port} is no TCP port")
        for host in self.hosts:
            if not _HOST_NAME.match(host):
                raise ValueError(f"{host!r} is no host name")

    @property
    def hosts(self) -> tuple[str, ...]:
        """All host names."""
        return self.also if self.host is None else (self.host, *self.also)

    def overlaps(self, other: Route) -> bool:
        """Return whether there is a request that both would take."""
        return (self.port is not None and self.port == other.port) or not set(self.hosts).isdisjoint(other.hosts)


@dataclass(frozen=True)
class Release:
    """An image and a config that shall become running services."""

    instance: str
    """Id of this slipway installation; several may share an engine. Letters, digits, `.`, `_`, `-`."""
    app_id: int
    app: str
    """The app's handle."""
    number: int
    """The release's number within its app."""
    operation: int
    """The operation that brings it about. Two operations may put up the same release, for instance a restart."""
    image: str
    """The engine's image id, `sha256:…`."""
    environment: Mapping[str, Secret]
    """The app's config as containers get it: without credentials that only serve for pulling."""
    procfile: str | None
    """The Procfile's text, or None where there is none."""
    settings: Mapping[str, str]
    """Config that steers the release itself: `RELEASE_HEALTHCHECK_TIMEOUT`, `STRICT_HEALTH_CHECKS`, `PORT`."""
    route: Route
    git_ref: str | None
    """The commit's id, or None for an image that was deployed directly."""
    services: Mapping[str, ServiceSettings] = field(default_factory=dict, kw_only=True)
    """How many containers each service has, and the like, by its name; one that is not among them is new."""
    force_zero_downtime: bool = field(default=False, kw_only=True)
    """Let the new containers of every service come up before the old ones stop."""
    api: str = field(default="", kw_only=True)
    """Root URL of the HTTP interface, for the `…_HREF` variables; no slash at its end."""
