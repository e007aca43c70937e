"""What an app's owner has settled for its services: how many containers, how large, how they are replaced.

Kept over releases, by the service's name: a service that a Procfile leaves out for a while finds its scale again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, select

from store.apps import App
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


def of_app(connection: Connection, app: App) -> Mapping[str, ServiceSettings]:
    """Return the settings of an app's services by name; one that is not among them is NEW_SERVICE."""
    rows = connection.execute(select(services).where(services.c.app_id == app.id))
    return {
        row.name: ServiceSettings(
            row.container_count,
            row.container_memory_mb,
            row.cpu_limit,
            row.force_zero_downtime,
            row.simple_health_check,
        )
        for row in rows
    }


def keep(connection: Connection, app: App, settings: Mapping[str, ServiceSettings]) -> None:
    """Replace the settings of an app's services."""
    connection.execute(services.delete().where(services.c.app_id == app.id))
    for name, each in settings.items():
        connection.execute(
            services.insert().values(
                app_id=app.id,
                name=name,
                container_count=each.container_count,
                container_memory_mb=each.container_memory_mb,
                cpu_limit=each.cpu_limit,
                force_zero_downtime=each.force_zero_downtime,
                simple_health_check=each.simple_health_check,
            )
        )
