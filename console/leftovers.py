"""What the records know nothing of: folders, logs and containers that something has left behind; and a wrong clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select

from releaser.engine import Engine
from store import apps
from store.data_folder import DataFolder
from store.database import Store
from store.tables import audit, operations

CLOCK_TOLERANCE = timedelta(seconds=5)
"""A clock that is set by NTP is put back by less than that."""


def clock_behind(store: Store, now: datetime) -> timedelta | None:
    """Return by how much the clock is behind what the records have seen already, None if it is not.

    Expiry of keys, tokens and certificates hangs on it.
    """
    with store.read() as connection:
        seen = [
            connection.execute(select(func.max(column))).scalar() for column in (operations.c.created_at, audit.c.at)
        ]
    latest = max((moment for moment in seen if moment is not None), default=now)
    return latest - now if latest - now > CLOCK_TOLERANCE else None


def in_folder(store: Store, data: DataFolder) -> list[str]:
    """Return repositories of no app, and logs of no operation, as paths below the data folder."""
    # Listed first: what is made meanwhile has its record by then.
    repositories, logs = list(data.repositories.glob("*.git")), list(data.logs.glob("*.log"))
    with store.read() as connection:
        known = {str(app.id) for app in (*apps.everywhere(connection), *apps.deprovisioned(connection))}
        numbers = {str(number) for number in connection.execute(select(operations.c.id)).scalars()}
    left = [path for path in repositories if path.stem not in known]
    left += [path for path in logs if path.stem not in numbers]
    return sorted(str(path.relative_to(data.root)) for path in left)


def on_engine(store: Store, engine: str | None) -> list[str]:
    """Return ids and titles of this installation's containers that belong to no app. Raises EngineUnreachableError."""
    with store.read() as connection:
        known = {app.id for app in apps.everywhere(connection)}
    with Engine(engine) as client:
        found = [each for each in client.containers(store.instance()) if each.app_id not in known]
    return [f"{each.id[:12]} ({each.app} {each.title})" for each in found]
