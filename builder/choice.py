"""Which builder a build gets: BuildKit, or the engine's classic one."""

from __future__ import annotations

from builder.buildkit import cgroups
from builder.classic import ClassicBuilder
from builder.engine import IsolatedClient
from builder.limits import Limits
from builder.options import Options
from builder.plan import Builder

BUILDKIT_API = (1, 42)
"""The engine's interface version of Docker 23, the first whose own default is BuildKit. Before that, BuildKit is there
but its Dockerfile frontend is of 2020."""


def choose(options: Options, client: IsolatedClient) -> Builder:
    """Return a builder for one build."""
    if not _is_buildkit(options, client):
        return ClassicBuilder(options.limits)
    # gRPC takes 15 MB of memory, which a server with an older engine does without.
    from builder.buildkit.build import BuildKitBuilder

    return BuildKitBuilder(client.interface_version, options.limits)


def limited(options: Options, client: IsolatedClient) -> bool:
    """Tell whether builds are kept within the limits, where there are any."""
    return options.limits == Limits() or not _is_buildkit(options, client) or cgroups.enforceable(client.address)


def _is_buildkit(options: Options, client: IsolatedClient) -> bool:
    newer = client.interface_version >= BUILDKIT_API
    return options.builder == "buildkit" or (options.builder == "auto" and newer)
