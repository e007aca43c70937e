"""Sessions: `logs` and `ssh` as public clients ask for them, in two steps.

They are recorded as operations that are over at once; what they show is shown when the client comes to the portal.
"""

from __future__ import annotations

from typing import Literal

from console import access
from console.grammar import Call, Outcome, Room, run
from hooks.request import Request
from releaser.terminal import Terminal
from store import apps, audit, operations
from store.apps import App
from store.audit import Deed, Origin
from store.errors import RefusedError
from store.operations import NoSuchOperationError, Operation
from store.users import User

COMMANDS = {"logs": "logs", "execute": "ssh"}
"""The command that does what a session of each type is for."""


def note(call: Call, app: App, kind: Literal["logs", "execute"], command: str | None = None) -> Operation:
    """Record that the user wants a session, and what is to run in it."""
    store = call.room.store
    request = Request(kind, command=command)
    with store.write() as connection:
        return operations.note(connection, store.seal, app, call.user_id, kind, request.dump())


def enter(room: Room, user: User, origin: Origin, name: str, terminal: Terminal | None) -> Outcome:
    """Return what a connection under the user name `name` leads to, and let it lead nowhere a second time.

    Raises RefusedError if it has, and NoSuchOperationError for what the user may reach no longer.
    """
    with audit.accounted(room.store.write, Deed(user.name, origin, "operation:follow", to_enter=False)):
        operation, app, sealed = _taken(room, user, name)
    command = COMMANDS.get(operation.type)
    if command is None:
        return Outcome(operation=operation)
    line = Request.load(sealed).command
    words = [command, "--app", app.handle, "--environment", app.environment]
    return run(Call(room, user, origin=origin, terminal=terminal), words if line is None else [*words, "--", line])


def _taken(room: Room, user: User, name: str) -> tuple[Operation, App, bytes]:
    """Use a permission up; return the operation that it is for, its app, and the request of a session."""
    number = room.portal.take(name, user.id).operation_id
    with room.store.write() as connection:
        operation = operations.by_id(connection, number)
        command = COMMANDS.get(operation.type)
        need = access.needed(command or "operation:follow")
        app = apps.reachable_by_id(connection, user, operation.app_id, need=need, deprovisioned=command is None)
        if app is None:
            raise NoSuchOperationError(number)
        if command is None:
            return operation, app, b""
        sealed = operations.take_request(connection, room.store.seal, operation)
    if sealed is None:
        raise RefusedError("this session has been used already; run the command again")
    return operation, app, sealed
