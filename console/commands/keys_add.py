"""`keys:add`: one more key for a user."""

from __future__ import annotations

import click

from console import moments
from console.grammar import Call, command
from store import keys, users
from store.errors import RefusedError, UsageError
from store.keys import PublicKey
from store.tables import now


@command("keys:add")
@click.option("--user", "name", metavar="NAME", help="Whose key it is; only an administrator may name somebody else.")
@click.option(
    "--expires",
    metavar="DATE|DAYS",
    help="Refuse the key from then on: 2027-01-31 (UTC), 90 for days, 12h for hours. By default it does not expire.",
)
@click.argument("words", nargs=-1, metavar="[TYPE BASE64 [COMMENT]]")
def keys_add(call: Call, name: str | None, expires: str | None, words: tuple[str, ...]) -> None:
    """Add a public key, given as arguments or on standard input: keys:add < ~/.ssh/id_ed25519.pub."""
    expires_at = None if expires is None else moments.after(expires, now())
    if expires_at is not None and expires_at <= now():
        raise UsageError(f"{expires} is over already; name a day to come")
    key = PublicKey.parse(" ".join(words) if words else call.read_input())
    with call.room.store.write() as connection:
        user = call.user
        if name is not None and name != user.name:
            if not call.user.admin:
                raise RefusedError("only an administrator may add keys for others")
            user = users.by_name(connection, name)
        if not user.id:
            raise UsageError("say whose key it is, with --user NAME")
        keys.add(connection, user, key, expires_at=expires_at)
    call.print(f"Added {key.fingerprint} for {user.name}.")
