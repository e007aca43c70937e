"""Operations: what somebody asked for, recorded before it is done, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, func, select

from store import audit
from store.apps import App
from store.errors import RefusedError
from store.seal import Seal
from store.tables import apps, now, operations, users

Type = Literal["deploy", "configure", "restart", "rebuild", "rollback", "scale", "deprovision", "logs", "execute"]
"""The last two are sessions: records that somebody looked at logs or ran a command, over as soon as they are made."""
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

UNFINISHED: tuple[Status, ...] = ("queued", "running")


_ALL = (
    select(operations, apps.c.handle.label("app"), users.c.name.label("user"))
    .join(apps, operations.c.app_id == apps.c.id)
    .outerjoin(users, operations.c.user_id == users.c.id)
)
_BY_ID = _ALL.where(operations.c.id == bindparam("sought"))


class NoSuchOperationError(RefusedError):
    """No such operation, or none of an app that the user may reach: one and the same answer."""

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no operation {number} of an app of yours; `operations --app APP` lists them")


@dataclass(frozen=True)
class Operation:
    """One operation. Its request is sealed, and opened by `request` alone."""

    id: int
    app_id: int
    app: str
    user: str
    type: Type
    status: Status
    error: str | None
    branches_before: Mapping[str, str | None] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def finished(self) -> bool:
        """Whether the outcome is known."""
        return self.status not in UNFINISHED


LOCAL_USER = "the administrator"
"""How somebody at the machine itself is called, who needs no account."""


def place(operation_id: int) -> str:
    """Return what an operation's sealed request is bound to."""
    return f"request of operation {operation_id}"


def add(connection: Connection, seal: Seal, app: App, user_id: int | None, kind: Type, request: bytes) -> Operation:
    """Record an operation as queued."""
    operation_id: int = connection.execute(
        operations.insert()
        .values(app_id=app.id, user_id=user_id, type=kind, status="queued", request=b"")
        .returning(operations.c.id)
    ).scalar_one()
    audit.about(operation=operation_id)
    sealed = seal.close(request, place(operation_id))
    connection.execute(operations.update().where(operations.c.id == operation_id).values(request=sealed))
    return by_id(connection, operation_id)


def note(connection: Connection, seal: Seal, app: App, user_id: int | None, kind: Type, request: bytes) -> Operation:
    """Record a session, which nothing waits for. Its request stays until it is taken."""
    session = add(connection, seal, app, user_id, kind, request)
    moment = now()
    connection.execute(
        operations.update()
        .where(operations.c.id == session.id)
        .values(status="succeeded", started_at=moment, finished_at=moment)
    )
    return by_id(connection, session.id)


def take_request(connection: Connection, seal: Seal, operation: Operation) -> bytes | None:
    """Open a session's request and forget it; None if somebody has taken it before."""
    sealed = connection.execute(select(operations.c.request).where(operations.c.id == operation.id)).scalar_one()
    connection.execute(operations.update().where(operations.c.id == operation.id).values(request=b""))
    return seal.open(sealed, place(operation.id)) if sealed else None


def by_id(connection: Connection, operation_id: int) -> Operation:
    """Return an operation; raises NoSuchOperationError where there is none."""
    row = connection.execute(_BY_ID, {"sought": operation_id}).first()
    if row is None:
        raise NoSuchOperationError(operation_id)
    return _operation(row)


def of_app(connection: Connection, app: App, limit: int) -> list[Operation]:
    """Return an app's operations, newest first."""
    question = _ALL.where(operations.c.app_id == app.id).order_by(operations.c.id.desc()).limit(limit)
    return [_operation(row) for row in connection.execute(question)]


def newest(connection: Connection) -> int:
    """Return the number of the newest operation, 0 if there is none."""
    return int(connection.execute(select(func.coalesce(func.max(operations.c.id), 0))).scalar_one())


def page_of_app(connection: Connection, app: App, limit: int, offset: int) -> tuple[list[Operation], int]:
    """Return a part of an app's operations, newest first, and how many there are in all."""
    mine = operations.c.app_id == app.id
    question = _ALL.where(mine).order_by(operations.c.id.desc()).limit(limit).offset(offset)
    total = connection.execute(select(func.count()).select_from(operations).where(mine)).scalar_one()
    return [_operation(row) for row in connection.execute(question)], total


def newest_of_app(connection: Connection, app: App, kinds: Sequence[Type] = ()) -> Operation | None:
    """Return an app's newest operation, of one of the `kinds` if any is named."""
    question = _ALL.where(operations.c.app_id == app.id)
    if kinds:
        question = question.where(operations.c.type.in_(kinds))
    row = connection.execute(question.order_by(operations.c.id.desc()).limit(1)).first()
    return None if row is None else _operation(row)


def unfinished(connection: Connection) -> list[Operation]:
    """Return what a crash or a stop left over, in order of arrival."""
    question = _ALL.where(operations.c.status.in_(UNFINISHED)).order_by(operations.c.id)
    return [_operation(row) for row in connection.execute(question)]


def request(connection: Connection, seal: Seal, operation: Operation) -> bytes:
    """Open an operation's request."""
    sealed = connection.execute(select(operations.c.request).where(operations.c.id == operation.id)).scalar_one()
    return seal.open(sealed, place(operation.id))


def start(connection: Connection, operation: Operation) -> None:
    """Record that an operation is running."""
    connection.execute(
        operations.update().where(operations.c.id == operation.id).values(status="running", started_at=now())
    )


def remember_branches(connection: Connection, operation: Operation, branches: Mapping[str, str | None]) -> None:
    """Record the branches that an operation is about to move, so that a restart can put them back."""
    connection.execute(
        operations.update().where(operations.c.id == operation.id).values(branches_before=json.dumps(dict(branches)))
    )


def finish(connection: Connection, operation: Operation, status: Status, error: str | None = None) -> None:
    """Record how an operation ended. Its request is forgotten, since it may hold credentials that nobody needs now."""
    connection.execute(
        operations.update()
        .where(operations.c.id == operation.id)
        .values(status=status, error=error, finished_at=now(), request=b"")
    )


def _operation(row: Row[Any]) -> Operation:
    return Operation(
        id=row.id,
        app_id=row.app_id,
        app=row.app,
        user=row.user or LOCAL_USER,
        type=row.type,
        status=row.status,
        error=row.error,
        branches_before=row.branches_before and json.loads(row.branches_before),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
