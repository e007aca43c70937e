"""`users:remove`: somebody has no access any more."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store import users
from store.errors import RefusedError


@command("users:remove")
@click.argument("name", metavar="USER")
def users_remove(call: Call, name: str) -> None:
    """Remove USER (for administrators): keys and roles are gone at once, also for connections that are open.

    Operations that they have started go on, and their environment stays with its apps.
    """
    if name == call.user.name:
        raise RefusedError("nobody removes themselves; ask another administrator")
    with call.room.store.write() as connection:
        users.remove(connection, users.by_name(connection, name))
    call.print(f"Removed {name}.")
