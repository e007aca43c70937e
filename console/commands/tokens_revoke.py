"""`tokens:revoke`: end a login over HTTP."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store import tokens, users
from store.errors import RefusedError, UsageError


@command("tokens:revoke")
@click.option("--user", "name", metavar="NAME", help="Whose tokens; only an administrator may name somebody else.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.argument("token", required=False, metavar="[TOKEN]")
def tokens_revoke(call: Call, name: str | None, everything: bool, token: str | None) -> None:
    """Let the access token TOKEN be good for nothing from now on; `tokens` lists them."""
    if (token is None) != everything:
        raise UsageError("name one TOKEN, or --all")
    with call.room.store.write() as connection:
        user = call.user
        if name is not None and name != user.name:
            if not call.user.admin:
                raise RefusedError("only an administrator may revoke the tokens of others")
            user = users.by_name(connection, name)
        if not user.id:
            raise UsageError("say whose tokens, with --user NAME")
        if token is None:
            call.print(f"Revoked {tokens.revoke_all(connection, user)} tokens of {user.name}.")
        else:
            tokens.revoke(connection, user, token)
            call.print(f"Revoked {token}.")
