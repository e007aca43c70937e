"""`apps:scale`: how many containers a service has, and how large they are."""

from __future__ import annotations

import click

from console.commands.services_settings import change_service
from console.grammar import Call, command, of_app
from store.operations import Operation

MAX_CONTAINERS = 32
"""Containers of one service; every app shares the engine with others."""

SMALLEST_MB = 32
LARGEST_MB = 1 << 20
"""A container of less memory does not start (the engine itself refuses less than 6 MB); more than 1 TiB is a typo."""


@command("apps:scale")
@of_app
@click.argument("service", metavar="SERVICE")
@click.option(
    "--container-count", type=click.IntRange(0, MAX_CONTAINERS), metavar="N", help="Containers, 0 to stop the service."
)
@click.option(
    "--container-size", type=click.IntRange(SMALLEST_MB, LARGEST_MB), metavar="MB", help="Memory of each container."
)
@click.option(
    "--cpu-limit",
    type=click.FloatRange(0, 1024),
    metavar="CPUS",
    help="Processors that each container may use at most, for example 0.5; 0 for as many as are idle.",
)
def apps_scale(
    call: Call,
    handle: str,
    environment: str | None,
    service: str,
    container_count: int | None,
    container_size: int | None,
    cpu_limit: float | None,
) -> Operation:
    """Change how many containers SERVICE has and how large they are, and replace the app's containers accordingly.

    What is not named stays as it is. The scale is kept over releases.
    """
    wanted = {
        "container_count": container_count,
        "container_memory_mb": container_size,
        "cpu_limit": cpu_limit,
    }
    return change_service(call, handle, environment, service, wanted)
