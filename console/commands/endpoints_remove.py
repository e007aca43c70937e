"""`endpoints:remove`: an app answers at a host name, or a TCP port, no longer."""

from __future__ import annotations

import click

from console.grammar import Call, command, of_app
from store import endpoints as records
from store.errors import UsageError


@command("endpoints:remove")
@of_app
@click.argument("host", metavar="HOST|PORT")
def endpoints_remove(call: Call, handle: str, environment: str | None, host: str) -> None:
    """Let an app answer at the host name HOST, or the TCP port PORT, no longer. Nothing is restarted.

    While an operation of the app is under way, it takes effect a few seconds after that.
    """
    with call.room.store.write() as connection:
        app = call.app(connection, handle, environment)
        if not records.remove(connection, app, host):
            raise UsageError(f"{handle} has no endpoint {host[:253]!r}; `endpoints --app {handle}` lists them")
    call.room.operations.upkeep.mend(app)
