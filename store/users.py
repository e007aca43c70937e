"""Users: who may use the server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from store import environments
from store.errors import SlipwayError
from store.handles import check_handle
from store.roles import Role
from store.tables import app_roles, keys, memberships, now, passwords, tokens, users


class UserError(SlipwayError):
    """A user who is unknown, or there already."""


@dataclass(frozen=True)
class User:
    """Somebody with keys."""

    id: int
    name: str
    admin: bool
    environment_id: int


_present = users.c.removed_at.is_(None)
_BY_ID = select(users).where(_present, users.c.id == bindparam("sought"))


def add(connection: Connection, name: str, *, admin: bool = False, environment_handles: Iterable[str] = ()) -> User:
    """Make a user with the role admin in the named environments; in one of the user's own name where none is named.

    The first one is where the user's apps go. Environments that do not exist are made. Raises UserError if the name is
    taken.
    """
    check_handle(name, "a user's name")
    handles = list(environment_handles) or [name]
    if connection.execute(select(users.c.id).where(_present, users.c.name == name)).first():
        raise UserError(f"there is a user {name} already; choose another name, or add a key with keys:add")
    ids = [environments.make(connection, handle) for handle in handles]
    user_id = connection.execute(
        users.insert().values(name=name, admin=admin, environment_id=ids[0]).returning(users.c.id)
    ).scalar_one()
    for environment_id in dict.fromkeys(ids):
        connection.execute(
            memberships.insert().values(user_id=user_id, environment_id=environment_id, role=str(Role.ADMIN))
        )
    return User(user_id, name, admin, ids[0])


def remove(connection: Connection, user: User) -> None:
    """Take a user's keys, password, tokens and roles away.

    The record stays, so that what they did keeps its name; the name is free for somebody else. Their operations go
    on, and their environment stays with its apps.
    """
    for table in (keys, passwords, tokens, memberships, app_roles):
        connection.execute(table.delete().where(table.c.user_id == user.id))
    connection.execute(users.update().where(users.c.id == user.id).values(removed_at=now()))


def by_id(connection: Connection, user_id: int) -> User | None:
    """Return a user, None for one who was removed."""
    row = connection.execute(_BY_ID, {"sought": user_id}).first()
    return None if row is None else user(row)


def by_name(connection: Connection, name: str) -> User:
    """Return a user; raises UserError for a name that is none."""
    row = connection.execute(select(users).where(_present, users.c.name == name)).first()
    if row is None:
        raise UserError(f"there is no user {name[:80]!r}; `users` lists them")
    return user(row)


def everybody(connection: Connection) -> list[User]:
    """Return all users, by name."""
    return [user(row) for row in connection.execute(select(users).where(_present).order_by(users.c.name))]


def user(row: Row[Any]) -> User:
    """Return the user of a row that has the columns of a user's record."""
    return User(row.id, row.name, row.admin, row.environment_id)
