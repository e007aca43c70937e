"""What leads visitors to the apps of a data folder, as the settings have it.

The engine room opens it to serve, and `slipway down` to take it away, which has no use for the rest of an engine room.
"""

from __future__ import annotations

from dataclasses import replace

from console.settings import Settings
from releaser.haproxy import Proxy
from releaser.published_ports import PublishedPorts
from releaser.router import Router


def open_router(settings: Settings, acme_thumbprint: str | None = None) -> Router:
    """Return the router, running or not. It answers the challenges of the ACME account with that thumbprint."""
    if settings.router == "none":
        return PublishedPorts(settings.http.host)
    listening = replace(settings.listening, acme_thumbprint=acme_thumbprint)
    return Proxy(settings.data.proxy, listening, drain_seconds=settings.connection_drain)
