"""`apps:deprovision`: take an app away for good."""

from __future__ import annotations

from console.grammar import Call, command, of_app
from hooks.request import Request
from store.operations import Operation


@command("apps:deprovision")
@of_app
def apps_deprovision(call: Call, handle: str, environment: str | None) -> Operation:
    """Take an app away for good: its containers and route, releases, config, repository, images and host names.

    Its name is free afterwards. Its operations stay, and `operation:logs` shows what they said. It cannot be undone;
    once it has begun, it cannot be cancelled either.
    """
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
    return call.room.operations.open(app, call.user_id, Request("deprovision"))
