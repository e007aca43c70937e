"""What the server's administrator decides about what is kept, and for how long.

It stands by itself since every process of the `slipway` program reads the settings, and only the engine room has a use
for the records and the engine that are looked through.
"""

from __future__ import annotations

from dataclasses import dataclass

KEPT_DAYS = 90
"""How long the log of an operation is kept after its end, by default."""


@dataclass(frozen=True)
class Policy:
    """What the server's administrator decides about it."""

    keep: int = 10
    """Releases of each app whose images stay, so that they can be rolled back to."""
    full: int = 85
    """Percent of the engine's disk from which everything is collected at once."""
    dedicated: bool = False
    """Whether the engine serves nobody else, so that base images and BuildKit's cache may be collected too."""
    cache: int = 10 << 30
    """Bytes of BuildKit's cache that stay on a dedicated engine; none of it while the disk is too full."""


DEFAULT_POLICY = Policy()
