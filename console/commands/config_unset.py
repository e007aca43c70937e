"""`config:unset`: remove variables, and restart the app without them."""

from __future__ import annotations

import click

from console.grammar import Call, command, of_app
from hooks.request import Request
from store import config
from store.operations import Operation
from store.secret import Secret


@command("config:unset")
@of_app
@click.argument("names", nargs=-1, required=True, metavar="KEY …")
def config_unset(call: Call, handle: str, environment: str | None, names: tuple[str, ...]) -> Operation:
    """Remove config variables and restart the app without them, as one operation."""
    changes = {name: Secret("") for name in names}
    config.check(changes)
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
    return call.room.operations.open(app, call.user_id, Request("configure", changes))
