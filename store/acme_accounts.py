"""Accounts at certificate authorities: a private key per authority, sealed, and kept for as long as these records."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select

from store.seal import Seal
from store.secret import Secret
from store.tables import acme_accounts


def place(directory: str) -> str:
    """Return what an account's sealed key is bound to."""
    return f"account key at {directory}"


def key(connection: Connection, seal: Seal, directory: str, make: Callable[[], Secret]) -> Secret:
    """Return the account's key at the authority whose directory this is: the one that is kept, else a new one."""
    sealed = connection.execute(select(acme_accounts.c.sealed_key).where(acme_accounts.c.directory == directory))
    if (known := sealed.scalar()) is not None:
        return Secret(seal.open(known, place(directory)).decode())
    made = make()
    row = {"directory": directory, "sealed_key": seal.close(made.reveal().encode(), place(directory))}
    connection.execute(acme_accounts.insert().values(row))
    return made
