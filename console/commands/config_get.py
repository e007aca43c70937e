"""`config:get`: one variable."""

from __future__ import annotations

import click

from console.grammar import Call, command, json_option, of_app
from store import configs
from store.errors import SlipwayError


class NoSuchVariableError(SlipwayError):
    """The config has no such variable."""


@command("config:get")
@of_app
@click.argument("name")
@json_option
def config_get(call: Call, handle: str, environment: str | None, name: str, as_json: bool) -> None:
    """Print the value of the variable NAME."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        values = configs.current(connection, call.room.store.seal, app).values
    if name not in values:
        raise NoSuchVariableError(f"{handle} has no config variable {name[:80]!r}; `config --app {handle}` lists them")
    if as_json:
        call.print_json({name: values[name].reveal()})
    else:
        call.print(values[name].reveal())
