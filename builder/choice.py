"""Which builder a build gets: BuildKit, or the engine's classic one."""

from __future__ import annotations

from typing import Literal, get_args

from builder.classic import ClassicBuilder
from builder.engine import IsolatedClient
from builder.plan import Builder

Choice = Literal["auto", "buildkit", "classic"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

BUILDKIT_API = (1, 42)
"""The engine's interface version of Docker 23, the first whose own default is BuildKit. Before that, BuildKit is there
but its Dockerfile frontend is of 2020."""


def choose(choice: Choice, client: IsolatedClient) -> Builder:
    """Return a builder for one build."""
    if choice == "classic" or (choice == "auto" and client.interface_version < BUILDKIT_API):
        return ClassicBuilder()
    # gRPC takes 15 MB of memory, which a server with an older engine does without.
    from builder.buildkit.build import BuildKitBuilder

    return BuildKitBuilder(client.interface_version)
