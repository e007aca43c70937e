"""`environments:create`: a new place for apps."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store import environments


@command("environments:create")
@click.argument("handle", metavar="ENVIRONMENT")
def environments_create(call: Call, handle: str) -> None:
    """Create an ENVIRONMENT (for administrators); access:grant lets others into it."""
    with call.room.store.write() as connection:
        environments.create(connection, handle)
    call.print(f"Created {handle}.")
