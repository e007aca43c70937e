"""What the server's administrator decides about builds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from builder.limits import Limits

Choice = Literal["auto", "buildkit", "classic"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True)
class Options:
    """Settings of the whole server."""

    builder: Choice = "auto"
    credential_helper: str | None = None
    """NAME of `docker-credential-NAME`, which is asked for registries that an app has no credentials for."""
    local_images: frozenset[str] = frozenset()
    """Images, in full form, that live on the engine only and are free for every app. No registry is asked for them."""
    limits: Limits = field(default_factory=Limits)
    """Of one build."""
    seconds: float = 30 * 60.0
    """Time limit of a build, and of pulling an image that is deployed as it is; Aptible's is half an hour."""


DEFAULTS = Options()
