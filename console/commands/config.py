"""`config`: an app's variables."""

from __future__ import annotations

import shlex

from console.grammar import Call, command, json_option, of_app
from store import configs


@command("config")
@of_app
@json_option
def config(call: Call, handle: str, environment: str | None, as_json: bool) -> None:
    """Print an app's config, as lines that a shell can read."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        values = configs.current(connection, call.room.store.seal, app).values
    if as_json:
        call.print_json({name: values[name].reveal() for name in sorted(values)})
        return
    for name in sorted(values):
        call.print(f"{name}={shlex.quote(values[name].reveal())}")
