"""Environments: the places that apps lie in, and that access is granted on."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from store.errors import SlipwayError
from store.handles import check_handle
from store.tables import environments


class EnvironmentTakenError(SlipwayError):
    """There is an environment of that name already."""


def make(connection: Connection, handle: str) -> int:
    """Return an environment's id, making the environment if there is none. Raises UsageError for a bad name."""
    check_handle(handle, "an environment's name")
    connection.execute(insert(environments).values(handle=handle).on_conflict_do_nothing())
    return int(connection.execute(select(environments.c.id).where(environments.c.handle == handle)).scalar_one())


def create(connection: Connection, handle: str) -> int:
    """Make an environment that is not there yet and return its id. Raises EnvironmentTakenError, UsageError."""
    check_handle(handle, "an environment's name")
    if connection.execute(select(environments.c.id).where(environments.c.handle == handle)).first():
        raise EnvironmentTakenError(f"there is an environment {handle} already; choose another name")
    return make(connection, handle)
