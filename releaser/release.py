"""What is to run: one release of one app.

Plain values. Whoever keeps the records fills them in; this room only makes them true on an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from releaser.route import Route
from store.secret import Secret
from store.services import ServiceSettings


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
