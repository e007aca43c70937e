"""Access: who has which role, in an environment or on one app. Of two roles the higher one counts.

Server administrators have every role everywhere, without a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from store.errors import RefusedError, SlipwayError
from store.roles import Role, RoleTooLowError
from store.tables import app_roles, apps, environments, memberships, users
from store.users import User


class NoSuchEnvironmentError(RefusedError):
    """No such environment, or none that this user may use: one and the same answer, so that names cannot be probed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no environment {name[:80]!r} that you may use; `environments` lists yours")


class NoSuchGrantError(SlipwayError):
    """There is nothing to take away."""


@dataclass(frozen=True)
class Environment:
    """An environment, and somebody's role in all of it."""

    id: int
    handle: str
    role: Role


@dataclass(frozen=True)
class Grant:
    """One role of one user: on an app, or where `app` is None in a whole environment."""

    user: str
    role: Role
    environment: str
    app: str | None


# Made once, as in store.keys: every command about environments begins with one of them.
_WITH_ROLE = select(environments.c.id, environments.c.handle, memberships.c.role).order_by(environments.c.handle)
_ALL = _WITH_ROLE.outerjoin(
    memberships, (memberships.c.environment_id == environments.c.id) & (memberships.c.user_id == bindparam("by"))
)
_OWN = _WITH_ROLE.join(memberships).where(memberships.c.user_id == bindparam("by"))


def environments_of(connection: Connection, user: User) -> list[Environment]:
    """Return the environments that a user has a role in, by name: for an administrator all."""
    return [
        Environment(row.id, row.handle, Role.ADMIN if user.admin else Role.named(row.role))
        for row in connection.execute(_ALL if user.admin else _OWN, {"by": user.id})
    ]


@dataclass(frozen=True)
class Place:
    """An environment that somebody knows of, whatever they may do there."""

    id: int
    handle: str
    created_at: datetime


def places_of(connection: Connection, user: User) -> list[Place]:
    """Return the environments that a user has a role in, or on an app of, by name: for an administrator all."""
    question = select(environments).order_by(environments.c.handle)
    if not user.admin:
        in_all = select(memberships.c.environment_id).where(memberships.c.user_id == user.id)
        on_apps = select(apps.c.environment_id).join(app_roles).where(app_roles.c.user_id == user.id)
        question = question.where(environments.c.id.in_(in_all) | environments.c.id.in_(on_apps))
    return [Place(row.id, row.handle, row.created_at) for row in connection.execute(question)]


def environment(connection: Connection, user: User, handle: str, need: Role) -> Environment:
    """Return an environment in which a user has at least the role `need`.

    Raises NoSuchEnvironmentError where the user has none, RoleTooLowError.
    """
    for found in environments_of(connection, user):
        if found.handle == handle:
            if found.role < need:
                raise RoleTooLowError(user.name, f"environment {handle}", found.role, need)
            return found
    raise NoSuchEnvironmentError(handle)


def grant_environment(connection: Connection, user: User, environment_id: int, role: Role) -> None:
    """Give a user a role in an environment, in place of the one that they have there."""
    _grant(connection, memberships, user, {"environment_id": environment_id}, role)


def grant_app(connection: Connection, user: User, app_id: int, role: Role) -> None:
    """Give a user a role on one app, in place of the one that they have on it."""
    _grant(connection, app_roles, user, {"app_id": app_id}, role)


def _grant(connection: Connection, table: Table, user: User, where: dict[str, int], role: Role) -> None:
    connection.execute(
        insert(table)
        .values(user_id=user.id, **where, role=str(role))
        .on_conflict_do_update(index_elements=["user_id", *where], set_={"role": str(role)})
    )


def revoke_environment(connection: Connection, user: User, environment_id: int) -> None:
    """Take a user's role in an environment away; roles on single apps stay. Raises NoSuchGrantError."""
    _revoke(connection, memberships, user, memberships.c.environment_id == environment_id, "environment")


def revoke_app(connection: Connection, user: User, app_id: int) -> None:
    """Take a user's role on one app away; one in its environment stays. Raises NoSuchGrantError."""
    _revoke(connection, app_roles, user, app_roles.c.app_id == app_id, "app")


def _revoke(connection: Connection, table: Table, user: User, where: ColumnElement[bool], noun: str) -> None:
    if connection.execute(table.delete().where((table.c.user_id == user.id) & where)).rowcount == 0:
        raise NoSuchGrantError(f"{user.name} has no role granted on this {noun} itself; `access` lists all grants")


def grants(connection: Connection) -> list[Grant]:
    """Return every grant, by environment, app and user."""
    in_environments = (
        select(users.c.name, memberships.c.role, environments.c.handle)
        .join(memberships, memberships.c.user_id == users.c.id)
        .join(environments, memberships.c.environment_id == environments.c.id)
    )
    on_apps = (
        select(users.c.name, app_roles.c.role, environments.c.handle, apps.c.handle.label("app"))
        .join(app_roles, app_roles.c.user_id == users.c.id)
        .join(apps, app_roles.c.app_id == apps.c.id)
        .join(environments, apps.c.environment_id == environments.c.id)
        .where(apps.c.deleted_at.is_(None))
    )
    found = [Grant(row.name, Role.named(row.role), row.handle, None) for row in connection.execute(in_environments)]
    found += [Grant(row.name, Role.named(row.role), row.handle, row.app) for row in connection.execute(on_apps)]
    return sorted(found, key=lambda each: (each.environment, each.app or "", each.user))
