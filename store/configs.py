"""Config versions: every one is kept, encrypted; the current one belongs to the current release."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from store import config as config_values
from store.apps import App
from store.config import Config
from store.seal import Seal
from store.tables import config_versions, releases


@dataclass(frozen=True)
class ConfigVersion:
    """One version of an app's config. `id` None is the empty config of an app that never had any."""

    id: int | None
    number: int
    values: Config


def place(app_id: int, number: int) -> str:
    """Return what a version's sealed values are bound to."""
    return f"config version {number} of app {app_id}"


def add(connection: Connection, seal: Seal, app: App, values: Config) -> ConfigVersion:
    """Keep a new version. What makes it current is the release that uses it."""
    number = (
        1
        + connection.execute(
            select(func.coalesce(func.max(config_versions.c.number), 0)).where(config_versions.c.app_id == app.id)
        ).scalar_one()
    )
    sealed = seal.close(config_values.dump(values), place(app.id, number))
    version_id = connection.execute(
        config_versions.insert().values(app_id=app.id, number=number, sealed=sealed).returning(config_versions.c.id)
    ).scalar_one()
    return ConfigVersion(version_id, number, values)


def current_id(connection: Connection, app: App) -> int | None:
    """Return the id of the version of the current release; before the first release, of the newest version, if any."""
    of_release = (
        select(releases.c.config_version_id)
        .where(releases.c.app_id == app.id)
        .order_by(releases.c.number.desc())
        .limit(1)
    )
    newest = (
        select(config_versions.c.id)
        .where(config_versions.c.app_id == app.id)
        .order_by(config_versions.c.number.desc())
        .limit(1)
    )
    return connection.execute(of_release).scalar() or connection.execute(newest).scalar()


def current(connection: Connection, seal: Seal, app: App) -> ConfigVersion:
    """Return the version of the current release; before the first release, the newest version."""
    version_id = current_id(connection, app)
    return ConfigVersion(None, 0, {}) if version_id is None else by_id(connection, seal, app, version_id)


def app_of(connection: Connection, version_id: int) -> int | None:
    """Return the id of the app whose config a version is one of, None for no version."""
    question = select(config_versions.c.app_id).where(config_versions.c.id == version_id)
    app_id: int | None = connection.execute(question).scalar()
    return app_id


def by_id(connection: Connection, seal: Seal, app: App, version_id: int) -> ConfigVersion:
    """Return one version of an app's config; raises SealError if it does not open."""
    row = connection.execute(select(config_versions).where(config_versions.c.id == version_id)).one()
    values = config_values.load(seal.open(row.sealed, place(app.id, row.number)))
    return ConfigVersion(row.id, row.number, values)
