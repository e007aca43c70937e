"""`services:settings`: how a service without a route is replaced."""

from __future__ import annotations

from collections.abc import Mapping

import click

from console.grammar import Call, command, of_app
from hooks.artifacts import NothingToReleaseError
from hooks.plan import require_service
from hooks.request import Request
from store import releases
from store.errors import UsageError
from store.operations import Operation


def change_service(
    call: Call, handle: str, environment: str | None, service: str, wanted: Mapping[str, int | float | None]
) -> Operation:
    """Open the operation that changes settings of a service, those that are not None."""
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        raise UsageError("name what to change; --help lists the options")
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        current = releases.current(connection, app)
    if current is None:
        raise NothingToReleaseError(f"{handle} has not been deployed yet; its services come with its first release")
    require_service(app, current, service)
    return call.room.operations.open(app, call.user_id, Request("scale", service=service, settings=changes))


@command("services:settings")
@of_app
@click.argument("service", metavar="SERVICE")
@click.option(
    "--force-zero-downtime/--no-force-zero-downtime",
    default=None,
    help="Let new containers come up before the old ones stop, also without a route.",
)
@click.option(
    "--simple-health-check/--no-simple-health-check",
    default=None,
    help="Let uptime count instead of the image's HEALTHCHECK.",
)
def services_settings(
    call: Call,
    handle: str,
    environment: str | None,
    service: str,
    force_zero_downtime: bool | None,
    simple_health_check: bool | None,
) -> Operation:
    """Change how SERVICE is replaced at a release, and restart the app so.

    Without a route to it, a service's old containers stop before the new ones start. With --force-zero-downtime they
    overlap: the old ones stop when the image's HEALTHCHECK passes, or after 30 seconds of uptime.
    """
    wanted = {"force_zero_downtime": force_zero_downtime, "simple_health_check": simple_health_check}
    return change_service(call, handle, environment, service, wanted)
