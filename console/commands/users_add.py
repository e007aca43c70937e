"""`users:add`: somebody new, with their first key."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store import keys, users
from store.keys import PublicKey


@command("users:add")
@click.argument("name")
@click.option(
    "--environment",
    "--env",
    "environments",
    multiple=True,
    metavar="ENVIRONMENT",
    help="An environment to be a member of, repeatable; the first is where new apps go. "
    "By default one of the user's own name.",
)
@click.option("--admin", is_flag=True, help="May do everything, everywhere.")
def users_add(call: Call, name: str, environments: tuple[str, ...], admin: bool) -> None:
    """Add a user NAME (for administrators), whose public key is read from standard input."""
    key = PublicKey.parse(call.read_input())
    with call.room.store.write() as connection:
        user = users.add(connection, name, admin=admin, environment_handles=environments)
        keys.add(connection, user, key)
    call.print(f"Added {name} with {key.fingerprint}.")
