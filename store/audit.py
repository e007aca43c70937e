"""The audit log: who did what, from where, and what was refused. Entries are added and never changed or removed.

A change and its entry are committed together: whoever answers a request says whose it is with `accounted`, and the
first transaction that the request writes (`store.database`) takes the entry along. What changes no record is entered
when it has been done, and what was refused when it has been refused. The database itself refuses to change or remove an
entry.

Nothing here may be a secret: of a request's words only those are entered that are known to be none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, select

from store.errors import RefusedError
from store.tables import audit

Door = Literal["ssh", "git", "http", "local"]
Result = Literal["ok", "refused"]
"""What became of it. An operation is ok when it has been accepted; its own record tells how it ended."""


@dataclass(frozen=True)
class Origin:
    """Where a request comes from."""

    door: Door
    address: str | None = None
    """The client's, as the door sees it; None for a program at the machine itself."""
    key: str | None = None
    """The fingerprint of the key that was shown."""


LOCAL = Origin("local")


@dataclass
class Deed:
    """What somebody is about to do."""

    user: str
    origin: Origin
    action: str
    """A command's name, or git-receive-pack or git-upload-pack."""
    detail: str | None = None
    app: str | None = None
    """The app's name, as it was given until it is found."""
    app_id: int | None = None
    operation: int | None = None
    to_enter: bool = True
    """Whether an entry is still to be made once it is done."""


@dataclass(frozen=True)
class Entry:
    """One entry of the log."""

    id: int
    at: datetime
    user: str
    door: str
    address: str | None
    key: str | None
    action: str
    detail: str | None
    app: str | None
    operation: int | None
    result: str


DETAIL_WIDTH = 1000
"""Characters of a detail that are kept."""

_ENTRY = audit.insert()

_deed: ContextVar[Deed | None] = ContextVar("deed", default=None)


@contextmanager
def accounted(write: Callable[[], AbstractContextManager[Connection]], deed: Deed) -> Iterator[None]:
    """Enter in the log what the block does, unless it fails, or that it was refused. `write` opens a transaction."""
    token = _deed.set(deed)
    try:
        try:
            yield
        except RefusedError:
            deed.to_enter = False
            with write() as connection:
                _enter(connection, deed, "refused")
            raise
        if deed.to_enter:
            with write():
                pass  # it takes the entry along
    finally:
        _deed.reset(token)


def about(*, app: str | None = None, app_id: int | None = None, operation: int | None = None) -> None:
    """Tell what it is about that is being done, as soon as that is known."""
    if deed := _deed.get():
        deed.app = app or deed.app
        deed.app_id = app_id or deed.app_id
        deed.operation = operation or deed.operation


def settle(connection: Connection) -> Deed | None:
    """Take the entry of what is being done into a transaction, if it is still to be made; return whose it is."""
    deed = _deed.get()
    if deed is None or not deed.to_enter:
        return None
    _enter(connection, deed, "ok")
    return deed


def _enter(connection: Connection, deed: Deed, result: Result) -> None:
    connection.execute(
        _ENTRY,
        {
            "user": deed.user,
            "door": deed.origin.door,
            "address": deed.origin.address,
            "key": deed.origin.key,
            "action": deed.action,
            "detail": deed.detail and deed.detail[:DETAIL_WIDTH],
            "app": deed.app,
            "app_id": deed.app_id,
            "operation_id": deed.operation,
            "result": result,
        },
    )


def entries(
    connection: Connection,
    *,
    app_id: int | None = None,
    user: str | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[Entry]:
    """Return the newest entries, the oldest of them first."""
    question = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if app_id is not None:
        question = question.where(audit.c.app_id == app_id)
    if user is not None:
        question = question.where(audit.c.user == user)
    if since is not None:
        question = question.where(audit.c.at >= since)
    found = [
        Entry(
            id=row.id,
            at=row.at,
            user=row.user,
            door=row.door,
            address=row.address,
            key=row.key,
            action=row.action,
            detail=row.detail,
            app=row.app,
            operation=row.operation_id,
            result=row.result,
        )
        for row in connection.execute(question)
    ]
    return found[::-1]
