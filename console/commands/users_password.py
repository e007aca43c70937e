"""`users:password`: a password for clients that log in over HTTP."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store import passwords, tokens, users
from store.errors import RefusedError, UsageError
from store.secret import Secret


@command("users:password")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--email", metavar="EMAIL", help="An address to log in with, beside the name.")
def users_password(call: Call, name: str | None, email: str | None) -> None:
    """Set your password, or as an administrator that of user NAME, read from standard input.

    It is for clients that log in over HTTP, such as Aptible's command line; SSH goes on taking keys only. Whoever is
    logged in with an earlier password is logged out.
    """
    if name not in (None, call.user.name) and not call.user.admin:
        raise RefusedError("only an administrator may set somebody else's password")
    if name is None and not call.user.id:
        raise UsageError("say whose password it is: users:password NAME")
    sealed = passwords.seal(Secret(call.read_input().rstrip("\r\n")))
    with call.room.store.write() as connection:
        user = call.user if name is None else users.by_name(connection, name)
        passwords.keep(connection, user, sealed, email)
        tokens.revoke_all(connection, user)
    call.print(f"{user.name} logs in over HTTP with the new password from now on.")
