"""`keys:remove`: a key that names a user no longer."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store import keys, users
from store.errors import RefusedError, UsageError


@command("keys:remove")
@click.option("--user", "name", metavar="NAME", help="Whose key it is; only an administrator may name somebody else.")
@click.argument("fingerprint")
def keys_remove(call: Call, name: str | None, fingerprint: str) -> None:
    """Remove the key with this FINGERPRINT (SHA256:…), as `keys` shows it."""
    with call.room.store.write() as connection:
        user = call.user
        if name is not None and name != user.name:
            if not call.user.admin:
                raise RefusedError("only an administrator may remove keys of others")
            user = users.by_name(connection, name)
        if not user.id:
            raise UsageError("say whose key it is, with --user NAME")
        keys.remove(connection, user, fingerprint)
    call.print(f"Removed {fingerprint} of {user.name}.")
