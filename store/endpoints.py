"""Further host names at which an app answers, beside its own."""

from __future__ import annotations

from sqlalchemy import Connection, select

from store.apps import App
from store.errors import SlipwayError
from store.tables import endpoints


class HostTakenError(SlipwayError):
    """The host name leads to an app already."""


def add(connection: Connection, app: App, host: str) -> None:
    """Let an app answer at a host name too. Raises HostTakenError, which does not tell whose it is."""
    owner = connection.execute(select(endpoints.c.app_id).where(endpoints.c.host == host)).scalar()
    if owner is not None:
        raise HostTakenError(f"{host} leads to an app already; choose another name, or remove that endpoint first")
    connection.execute(endpoints.insert().values(host=host, app_id=app.id))


def remove(connection: Connection, app: App, host: str) -> bool:
    """Let an app answer at a host name no longer; return whether it did."""
    mine = (endpoints.c.app_id == app.id) & (endpoints.c.host == host)
    return connection.execute(endpoints.delete().where(mine)).rowcount > 0


def of_app(connection: Connection, app: App) -> list[str]:
    """Return the host names of an app, in alphabetical order."""
    question = select(endpoints.c.host).where(endpoints.c.app_id == app.id).order_by(endpoints.c.host)
    return list(connection.execute(question).scalars())
