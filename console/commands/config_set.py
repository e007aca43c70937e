"""`config:set`: change variables, and restart the app with them."""

from __future__ import annotations

import click

from console.grammar import Call, command, of_app
from hooks.request import Request
from store import config, dotenv
from store.errors import UsageError
from store.operations import Operation


@command("config:set")
@of_app
@click.argument("pairs", nargs=-1, metavar="KEY=VALUE … | -")
def config_set(call: Call, handle: str, environment: str | None, pairs: tuple[str, ...]) -> Operation:
    """Change config variables and restart the app with them, as one operation.

    An empty value removes its variable. With - the variables are read from standard input, as dotenv lines, so that
    no secret need be an argument.
    """
    if not pairs:
        raise UsageError("name at least one KEY=VALUE, or - to read them from standard input")
    changes = dict(config.parse_pairs(pair for pair in pairs if pair != "-"))
    if "-" in pairs:
        changes |= dotenv.parse(call.read_input())
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
    return call.room.operations.open(app, call.user_id, Request("configure", changes))
