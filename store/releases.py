"""Releases: what ran, and runs. A release never changes; the newest one is the current one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from store.apps import App
from store.configs import ConfigVersion
from store.errors import SlipwayError
from store.operations import LOCAL_USER, Operation
from store.tables import config_versions, operations, releases, users


class NoSuchReleaseError(SlipwayError):
    """An app has no release of that number, or none at all."""


@dataclass(frozen=True)
class Artifact:
    """What a release runs, apart from its config: the image, where it came from, and how its services start."""

    image: str
    """The engine's image id, `sha256:…`."""
    commit: str | None = None
    git_ref: str | None = None
    image_name: str | None = None
    """For an image deployed as it is: the name that was asked for."""
    image_digest: str | None = None
    procfile: str | None = None
    aptible_yml: str | None = None
    bases: Mapping[str, str] | None = None
    """Manifest digest by reference, of each image that the build started from."""


@dataclass(frozen=True)
class Release:
    """An artifact and a config version, released."""

    id: int
    number: int
    operation_id: int
    config_version_id: int
    config_version: int
    artifact: Artifact
    user: str
    created_at: datetime
    seconds: float
    """How long its operation took, from its first step to the commit point."""


def next_number(connection: Connection, app: App) -> int:
    """Return the number of the release after the newest one. Failed deploys use none up."""
    newest = select(func.coalesce(func.max(releases.c.number), 0)).where(releases.c.app_id == app.id)
    return 1 + int(connection.execute(newest).scalar_one())


def add(
    connection: Connection, app: App, number: int, operation: Operation, config: ConfigVersion, artifact: Artifact
) -> None:
    """Record a release, which makes it the current one."""
    connection.execute(
        releases.insert().values(
            app_id=app.id,
            number=number,
            operation_id=operation.id,
            config_version_id=config.id,
            image=artifact.image,
            image_name=artifact.image_name,
            image_digest=artifact.image_digest,
            commit=artifact.commit,
            git_ref=artifact.git_ref,
            procfile=artifact.procfile,
            aptible_yml=artifact.aptible_yml,
            bases=json.dumps(dict(artifact.bases or {})),
        )
    )


def current(connection: Connection, app: App) -> Release | None:
    """Return what runs, or None before the first release."""
    newest = of_app(connection, app, limit=1)
    return newest[0] if newest else None


def of_app(connection: Connection, app: App, limit: int | None = None) -> list[Release]:
    """Return an app's releases, newest first."""
    question = _all().where(releases.c.app_id == app.id).order_by(releases.c.number.desc()).limit(limit)
    return [_release(row) for row in connection.execute(question)]


def app_of(connection: Connection, release_id: int) -> int | None:
    """Return the id of the app that a release is one of, None for no release."""
    app_id: int | None = connection.execute(select(releases.c.app_id).where(releases.c.id == release_id)).scalar()
    return app_id


def by_id(connection: Connection, release_id: int) -> Release:
    """Return a release that is known to exist."""
    return _release(connection.execute(_all().where(releases.c.id == release_id)).one())


def of_operation(connection: Connection, operation_id: int) -> Release | None:
    """Return the release that an operation made, None if it made none."""
    row = connection.execute(_all().where(releases.c.operation_id == operation_id)).first()
    return None if row is None else _release(row)


def by_number(connection: Connection, app: App, number: int) -> Release:
    """Return one release; raises NoSuchReleaseError."""
    for release in of_app(connection, app):
        if release.number == number:
            return release
    raise NoSuchReleaseError(f"{app.handle} has no release {number}; `releases --app {app.handle}` lists them")


def _all() -> Select[Any]:
    return (
        select(
            releases,
            config_versions.c.number.label("config_number"),
            users.c.name.label("user"),
            operations.c.started_at,
            operations.c.finished_at,
        )
        .join(config_versions, releases.c.config_version_id == config_versions.c.id)
        .join(operations, releases.c.operation_id == operations.c.id)
        .outerjoin(users, operations.c.user_id == users.c.id)
    )


def _release(row: Row[Any]) -> Release:
    return Release(
        id=row.id,
        number=row.number,
        operation_id=row.operation_id,
        config_version_id=row.config_version_id,
        config_version=row.config_number,
        artifact=Artifact(
            image=row.image,
            commit=row.commit,
            git_ref=row.git_ref,
            image_name=row.image_name,
            image_digest=row.image_digest,
            procfile=row.procfile,
            aptible_yml=row.aptible_yml,
            bases=json.loads(row.bases),
        ),
        user=row.user or LOCAL_USER,
        created_at=row.created_at,
        seconds=(row.finished_at - row.started_at).total_seconds() if row.finished_at and row.started_at else 0.0,
    )
