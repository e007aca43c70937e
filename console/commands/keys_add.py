"""`keys:add`: one more key for a user."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store import users
from store.errors import RefusedError, UsageError
from store.users import PublicKey


@command("keys:add")
@click.option("--user", "name", metavar="NAME", help="Whose key it is; only an administrator may name somebody else.")
@click.argument("words", nargs=-1, metavar="[TYPE BASE64 [COMMENT]]")
def keys_add(call: Call, name: str | None, words: tuple[str, ...]) -> None:
    """Add a public key, given as arguments or on standard input: keys:add < ~/.ssh/id_ed25519.pub."""
    key = PublicKey.parse(" ".join(words) if words else call.read_input())
    with call.room.store.write() as connection:
        user = call.user
        if name is not None and name != user.name:
            if not call.user.admin:
                raise RefusedError("only an administrator may add keys for others")
            user = users.by_name(connection, name)
        if not user.id:
            raise UsageError("say whose key it is, with --user NAME")
        users.add_key(connection, user, key)
    call.print(f"Added {key.fingerprint} for {user.name}.")
