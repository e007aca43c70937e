"""Which builder a build gets: BuildKit, or the engine's classic one."""

from __future__ import annotations

from builder.classic import ClassicBuilder
from builder.engine import IsolatedClient
from builder.options import Options
from builder.plan import Builder

BUILDKIT_API = (1, 42)
"""The engine's interface version of Docker 23, the first whose own default is BuildKit. Before that, BuildKit is there
but its Dockerfile frontend is of 2020."""


def choose(options: Options, client: IsolatedClient) -> Builder:
    """Return a builder for one build."""
    choice = options.builder
    if choice == "classic" or (choice == "auto" and client.interface_version < BUILDKIT_API):
        return ClassicBuilder(options.limits)
    # gRPC takes 15 MB of memory, which a server with an older engine does without.
    from builder.buildkit.build import BuildKitBuilder

    return BuildKitBuilder(client.interface_version, options.limits)
