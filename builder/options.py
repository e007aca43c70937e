"""What the server's administrator decides about builds."""

from __future__ import annotations

from dataclasses import dataclass

from builder.choice import Choice


@dataclass(frozen=True)
class Options:
    """Settings of the whole server."""

    builder: Choice = "auto"
    credential_helper: str | None = None
    """NAME of `docker-credential-NAME`, which is asked for registries that an app has no credentials for."""
    local_images: frozenset[str] = frozenset()
    """Images, in full form, that live on the engine only and are free for every app. No registry is asked for them."""


DEFAULTS = Options()
