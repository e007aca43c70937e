"""`restart`: run the current release anew."""

from __future__ import annotations

from console.grammar import Call, command, of_app
from hooks.request import Request
from store.operations import Operation


@command("restart")
@of_app
def restart(call: Call, handle: str, environment: str | None) -> Operation:
    """Replace an app's containers by new ones of the same release."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
    return call.room.operations.open(app, call.user_id, Request("restart"))
