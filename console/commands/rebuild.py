"""`rebuild`: build the current commit again, or pull the current image again, and deploy it."""

from __future__ import annotations

from console.grammar import Call, command, of_app
from hooks.request import Request
from store.operations import Operation


@command("rebuild")
@of_app
def rebuild(call: Call, handle: str, environment: str | None) -> Operation:
    """Build the current commit again (or pull the current image again) and deploy the result."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
    return call.room.operations.open(app, call.user_id, Request("rebuild"))
