"""Apps: their names, their places, and who may reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Row, Select, bindparam, select

from store import access, audit
from store.errors import RefusedError, SlipwayError, UsageError
from store.handles import check_handle
from store.roles import Role, RoleTooLowError
from store.tables import app_roles, apps, endpoints, environments, memberships, metadata, now, operations
from store.tables import audit as audit_table
from store.users import User

_LIVE = apps.c.deleted_at.is_(None)


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
    deleted_at: datetime | None = None
    """When it was deprovisioned: nothing but its operations is left of it then."""
    environment_id: int = 0


class _Questions:
    """For apps of one kind and the roles of whoever is `by`. Made once: that takes longer than the answer."""

    def __init__(self, *which: ColumnElement[bool]) -> None:
        by: BindParameter[int] = bindparam("by")
        mine = (memberships.c.environment_id == apps.c.environment_id) & (memberships.c.user_id == by)
        own = (app_roles.c.app_id == apps.c.id) & (app_roles.c.user_id == by)
        self.of_administrators = (
            select(
                apps,
                environments.c.handle.label("environment"),
                memberships.c.role.label("in_environment"),
                app_roles.c.role.label("on_app"),
            )
            .select_from(apps.join(environments).outerjoin(memberships, mine).outerjoin(app_roles, own))
            .where(*which)
            .order_by(apps.c.handle)
        )
        has_role = memberships.c.role.is_not(None) | app_roles.c.role.is_not(None)
        self.of_others = self.of_administrators.where(has_role)


_ALL = select(apps, environments.c.handle.label("environment")).join(environments)
_HAS_HANDLE, _HAS_ID = apps.c.handle == bindparam("sought"), apps.c.id == bindparam("sought")
_BY_HANDLE, _BY_ID = _ALL.where(_HAS_HANDLE, _LIVE), _ALL.where(_HAS_ID)
_LIVE_BY_HANDLE, _LIVE_BY_ID, _ANY_BY_ID = (
    _Questions(_HAS_HANDLE, _LIVE),
    _Questions(_HAS_ID, _LIVE),
    _Questions(_HAS_ID),
)
_EVERY_LIVE = _Questions(_LIVE)


def create(
    connection: Connection,
    user: User,
    handle: str,
    *,
    environment: str | None,
    ports: Iterable[int] | None,
    usable: Callable[[int], bool],
) -> App:
    """Make an app in an environment in which the user has the role admin, the user's own by default.

    `ports` are the candidates for a port of its own, None where apps answer by host name; `usable` says whether another
    program holds a port. Raises AppError if the name is taken or no port is left, NoSuchEnvironmentError for an
    environment in which the user has no role, RoleTooLowError.
    """
    check_handle(handle, "an app's name")
    place = access.environment(connection, user, environment or _own_environment(connection, user), Role.ADMIN)
    _require_free(connection, handle)
    port = None
    if ports is not None:
        taken = {*connection.execute(select(apps.c.port)).scalars()}
        taken |= {*connection.execute(select(endpoints.c.tcp_port)).scalars()}
        port = next((port for port in ports if port not in taken and usable(port)), None)
        if port is None:
            raise AppError("no port is left for one more app; widen SLIPWAY_PORTS, or set SLIPWAY_DOMAIN")
    connection.execute(apps.insert().values(handle=handle, environment_id=place.id, port=port))
    app = by_handle(connection, handle)
    audit.about(app=app.handle, app_id=app.id)
    return app


def _own_environment(connection: Connection, user: User) -> str:
    """Return where a user's apps go by default. The administrator at the machine has none of their own."""
    question = select(environments.c.handle).where(environments.c.id == user.environment_id)
    own: str | None = connection.execute(question).scalar()
    if own is None:
        raise UsageError("say which environment the app belongs to, with --environment ENVIRONMENT")
    return own


def _require_free(connection: Connection, handle: str) -> None:
    if connection.execute(select(apps.c.id).where(apps.c.handle == handle, _LIVE)).first():
        raise AppError(f"the name {handle} is taken; choose another one")


def rename(connection: Connection, app: App, handle: str) -> App:
    """Give an app another handle. Raises UsageError for what cannot be one, AppError if it is taken."""
    check_handle(handle, "an app's name")
    if handle != app.handle:
        _require_free(connection, handle)
        connection.execute(apps.update().where(apps.c.id == app.id).values(handle=handle))
    return by_id(connection, app.id)


def delete(connection: Connection, app: App) -> None:
    """Forget an app and all that belongs to it but operations and audit log; its handle and its port are free again.

    Who has a role on it keeps it, since roles tell who may read its operations. One that is deleted already stays so.
    """
    for table in reversed(metadata.sorted_tables):
        if table not in (operations, app_roles, audit_table) and "app_id" in table.c:
            connection.execute(table.delete().where(table.c.app_id == app.id))
    connection.execute(
        apps.update().where(apps.c.id == app.id, _LIVE).values(deleted_at=now(), port=None, serving_operation_id=None)
    )


def _app(row: Row[Any]) -> App:
    return App(
        row.id,
        row.handle,
        row.environment,
        row.port,
        row.serving_operation_id,
        row.created_at,
        row.deleted_at,
        row.environment_id,
    )


def _apps(connection: Connection, question: Select[tuple[Any, ...]], **which: object) -> list[App]:
    return [_app(row) for row in connection.execute(question, which)]


def by_handle(connection: Connection, handle: str) -> App:
    """Return an app; raises NoSuchAppError."""
    found = _apps(connection, _BY_HANDLE, sought=handle)
    if not found:
        raise NoSuchAppError(handle)
    return found[0]


def by_id(connection: Connection, app_id: int) -> App:
    """Return an app that is known to exist, or to have existed."""
    return _apps(connection, _BY_ID, sought=app_id)[0]


def require(connection: Connection, app_id: int) -> App:
    """Return an app as it is now; raises NoSuchAppError if it was deprovisioned meanwhile."""
    app = by_id(connection, app_id)
    if app.deleted_at is not None:
        raise NoSuchAppError(app.handle)
    return app


def reachable(
    connection: Connection, user: User, handle: str, environment: str | None = None, *, need: Role = Role.READ
) -> App:
    """Return the app called `handle`, if it lies in `environment` (where given) and the user has the role `need` on it.

    Raises NoSuchAppError if there is none or the user has no role on it at all, RoleTooLowError if a lower one.
    """
    for app, role in _with_roles(connection, user, _LIVE_BY_HANDLE, sought=handle):
        if environment in (None, app.environment):
            return _allowed(user, app, role, need)
    raise NoSuchAppError(handle)


def reachable_by_id(
    connection: Connection, user: User, app_id: int, *, need: Role = Role.READ, deprovisioned: bool = False
) -> App | None:
    """Return an app by its record, None if there is none or the user has no role on it. Raises RoleTooLowError.

    With `deprovisioned`, one that there is no more counts too: roles are kept, as operations are.
    """
    questions = _ANY_BY_ID if deprovisioned else _LIVE_BY_ID
    for app, role in _with_roles(connection, user, questions, sought=app_id):
        return _allowed(user, app, role, need)
    return None


def of_user(connection: Connection, user: User, *, least: Role = Role.READ) -> list[App]:
    """Return every app on which a user has a role, at least `least`, by name."""
    return [app for app, role in _with_roles(connection, user, _EVERY_LIVE) if role >= least]


def _allowed(user: User, app: App, role: Role, need: Role) -> App:
    audit.about(app=app.handle, app_id=app.id)
    if role < need:
        raise RoleTooLowError(user.name, f"app {app.handle}", role, need)
    return app


def _with_roles(
    connection: Connection, user: User, questions: _Questions, **which: object
) -> Iterator[tuple[App, Role]]:
    """Yield apps and the user's roles on them, by name.

    One question, the same whether an app is not there or somebody else's, so that its time tells nothing.
    """
    question = questions.of_administrators if user.admin else questions.of_others
    for row in connection.execute(question, {"by": user.id, **which}):
        held = [Role.named(name) for name in (row.in_environment, row.on_app) if name is not None]
        yield _app(row), Role.ADMIN if user.admin else max(held)


def everywhere(connection: Connection) -> list[App]:
    """Return every app."""
    return _apps(connection, _ALL.where(_LIVE).order_by(apps.c.id))


def deprovisioned(connection: Connection) -> list[App]:
    """Return every app that there is no more."""
    return _apps(connection, _ALL.where(apps.c.deleted_at.is_not(None)).order_by(apps.c.id))


def serve_from(connection: Connection, app: App, operation_id: int) -> None:
    """Record whose containers serve an app from now on."""
    connection.execute(apps.update().where(apps.c.id == app.id).values(serving_operation_id=operation_id))
