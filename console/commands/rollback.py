"""`rollback`: release an earlier release again, image and config together, without a build."""

from __future__ import annotations

import click

from console.grammar import Call, command, of_app
from hooks.request import Request
from store import releases
from store.operations import Operation
from store.releases import NoSuchReleaseError


@command("rollback")
@of_app
@click.argument("number", type=click.IntRange(min=1), required=False, metavar="[RELEASE]")
def rollback(call: Call, handle: str, environment: str | None, number: int | None) -> Operation:
    """Go back to RELEASE, by default to the one before the current one: its image and its config, without a build."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        if number is None:
            earlier = releases.of_app(connection, app, limit=2)[1:]
            if not earlier:
                raise NoSuchReleaseError(f"{handle} has no release before the current one to go back to")
            number = earlier[0].number
        releases.by_number(connection, app, number)
    return call.room.operations.open(app, call.user_id, Request("rollback", release=number))
