"""What an app's owner has settled for its services: how many containers, how large, how they are replaced.

Kept over releases, by the service's name: a service that a Procfile leaves out for a while finds its scale again, and
the number by which public clients know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from store.apps import App
from store.errors import RefusedError
from store.tables import services


@dataclass(frozen=True)
class ServiceSettings:
    """One service's settings; the defaults are a new service's, as on Aptible."""

    container_count: int = 1
    container_memory_mb: int = 1024
    cpu_limit: float = 0.0
    """Processors that one container may use at most, 0 for as many as are idle."""
    force_zero_downtime: bool = False
    """Without a route: let the new containers come up before the old ones stop."""
    simple_health_check: bool = False
    """Let uptime count instead of the image's HEALTHCHECK."""

    def changed(self, changes: Mapping[str, int | float]) -> ServiceSettings:
        """Return these settings with some fields changed, by their names."""
        return ServiceSettings(**{**asdict(self), **changes})


NEW_SERVICE = ServiceSettings()


class NoSuchServiceNumberError(RefusedError):
    """No such service, or none of an app that the user may reach: one and the same answer."""

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no service {number} of an app of yours; `services --app APP` lists them")


@dataclass(frozen=True)
class Service:
    """A service as it is recorded."""

    id: int
    app_id: int
    name: str
    settings: ServiceSettings
    created_at: datetime


_SETTINGS = tuple(field.name for field in fields(ServiceSettings))


def recorded(connection: Connection, app: App) -> Mapping[str, Service]:
    """Return every service that an app ever had, by name."""
    rows = connection.execute(select(services).where(services.c.app_id == app.id).order_by(services.c.id))
    return {
        row.name: Service(
            row.id,
            row.app_id,
            row.name,
            ServiceSettings(**{name: getattr(row, name) for name in _SETTINGS}),
            row.created_at,
        )
        for row in rows
    }


def of_app(connection: Connection, app: App) -> Mapping[str, ServiceSettings]:
    """Return the settings of an app's services by name; one that is not among them is NEW_SERVICE."""
    return {name: service.settings for name, service in recorded(connection, app).items()}


def place_of(connection: Connection, number: int) -> tuple[int, str]:
    """Return the app's id and the name that a service's number stands for; raises NoSuchServiceNumberError."""
    row = connection.execute(select(services.c.app_id, services.c.name).where(services.c.id == number)).first()
    if row is None:
        raise NoSuchServiceNumberError(number)
    return row.app_id, row.name


def keep(connection: Connection, app: App, settings: Mapping[str, ServiceSettings]) -> None:
    """Record the settings of services of an app; those that are not named stay as they are."""
    for name, each in settings.items():
        values = asdict(each)
        connection.execute(
            insert(services)
            .values(app_id=app.id, name=name, **values)
            .on_conflict_do_update(index_elements=["app_id", "name"], set_=values)
        )


def number(connection: Connection, app: App, names: Iterable[str]) -> None:
    """Give every service of these names a number, with a new service's settings where it has none."""
    for name in names:
        connection.execute(
            insert(services).values(app_id=app.id, name=name, **asdict(NEW_SERVICE)).on_conflict_do_nothing()
        )
