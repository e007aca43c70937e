"""Apps: their names, their places, and who may reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, select

from store import users
from store.errors import RefusedError, SlipwayError
from store.handles import check_handle
from store.tables import apps, environments
from store.users import User


class AppError(SlipwayError):
    """An app that cannot be made."""


class NoSuchAppError(RefusedError):
    """No such app, or none that this user may reach: one and the same answer, so that names cannot be probed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no app {name[:80]!r} that you may reach; `apps` lists yours")


@dataclass(frozen=True)
class App:
    """What a release is released of."""

    id: int
    handle: str
    environment: str
    port: int | None
    serving_operation_id: int | None
    created_at: datetime


def create(
    connection: Connection,
    user: User,
    handle: str,
    *,
    environment: str | None,
    ports: Iterable[int] | None,
    usable: Callable[[int], bool],
) -> App:
    """Make an app in one of the user's environments, the user's own by default.

    `ports` are the candidates for a port of its own, None where apps answer by host name; `usable` says whether another
    program holds a port. Raises AppError if the name is taken or no port is left, NoSuchAppError's like for an
    environment that the user is no member of.
    """
    check_handle(handle, "an app's name")
    mine = users.environments_of(connection, user)
    environment_id = user.environment_id
    if environment is not None:
        named = [key for key, value in mine.items() if value == environment]
        if not named:
            raise RefusedError(f"there is no environment {environment[:80]!r} that you may use")
        environment_id = named[0]
    if connection.execute(select(apps.c.id).where(apps.c.handle == handle)).first():
        raise AppError(f"the name {handle} is taken; choose another one")
    port = None
    if ports is not None:
        taken = set(connection.execute(select(apps.c.port)).scalars())
        port = next((port for port in ports if port not in taken and usable(port)), None)
        if port is None:
            raise AppError("no port is left for one more app; widen SLIPWAY_PORTS, or set SLIPWAY_DOMAIN")
    connection.execute(apps.insert().values(handle=handle, environment_id=environment_id, port=port))
    return by_handle(connection, handle)


def _all() -> Select[tuple[object, ...]]:
    return select(apps, environments.c.handle.label("environment")).join(environments)


def _apps(connection: Connection, question: Select[tuple[object, ...]]) -> list[App]:
    return [
        App(row.id, row.handle, row.environment, row.port, row.serving_operation_id, row.created_at)
        for row in connection.execute(question)
    ]


def by_handle(connection: Connection, handle: str) -> App:
    """Return an app; raises NoSuchAppError."""
    found = _apps(connection, _all().where(apps.c.handle == handle))
    if not found:
        raise NoSuchAppError(handle)
    return found[0]


def by_id(connection: Connection, app_id: int) -> App:
    """Return an app that is known to exist."""
    return _apps(connection, _all().where(apps.c.id == app_id))[0]


def reachable(connection: Connection, user: User, handle: str, environment: str | None = None) -> App:
    """Return the app called `handle` if it exists, lies in `environment` (where given), and the user may reach it.

    Raises NoSuchAppError in every other case.
    """
    found = [
        app for app in of_user(connection, user) if app.handle == handle and environment in (None, app.environment)
    ]
    if not found:
        raise NoSuchAppError(handle)
    return found[0]


def of_user(connection: Connection, user: User) -> list[App]:
    """Return every app that a user may reach, by name."""
    mine = users.environments_of(connection, user)
    return _apps(connection, _all().where(apps.c.environment_id.in_(mine)).order_by(apps.c.handle))


def everywhere(connection: Connection) -> list[App]:
    """Return every app."""
    return _apps(connection, _all().order_by(apps.c.id))


def serve_from(connection: Connection, app: App, operation_id: int) -> None:
    """Record whose containers serve an app from now on."""
    connection.execute(apps.update().where(apps.c.id == app.id).values(serving_operation_id=operation_id))
