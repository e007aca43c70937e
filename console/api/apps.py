"""Apps, their config, and the settings that they were deployed with."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from fastapi import Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from builder.credentials import PASSWORD, USERNAME
from console.api import operations
from console.api.asked import Asked, Asking
from console.api.errors import ApiError
from console.api.hal import Collection, Id, Moment, Paged, Resource, answers, collection, links, reply, router
from console.api.operations import Operation
from console.api.services import Service, of_release
from console.commands.deploy import IMAGE
from console.deeds import named_app
from store import apps, audit, configs, releases
from store import operations as operation_records
from store.access import NoSuchEnvironmentError, places_of
from store.apps import NoSuchAppError
from store.config import Config
from store.releases import Release

CREDENTIALS = (USERNAME, PASSWORD)
"""Config variables that public clients know as sensitive settings, apart from the config."""

routes = router("apps")


class Image(Resource):
    """What an app's current release runs."""

    id: int
    kind: Literal["image"] = Field(default="image", serialization_alias="_type")
    git_repo: str | None
    git_ref: str | None
    docker_repo: str | None
    docker_ref: str | None
    dualstack_hint: int | None = None
    platform: str | None = None
    release: str | None
    scan: str | None = None
    exposed_ports: list[int] = Field(default_factory=list)
    created_at: Moment
    updated_at: Moment


class EmbeddedInApp(BaseModel):
    """What comes with an app."""

    services: list[Service] = Field(default_factory=list)
    last_operation: Operation | None = None
    last_deploy_operation: Operation | None = None
    current_image: Image | None = None


class App(Resource):
    """An app."""

    id: int
    kind: Literal["app"] = Field(default="app", serialization_alias="_type")
    handle: str
    git_repo: str
    status: Literal["pending", "provisioned"]
    deployment_method: Literal["git_deploy", "docker_image"]
    hooks: list[str] = Field(default_factory=list)
    created_at: Moment
    updated_at: Moment
    embedded: EmbeddedInApp = Field(serialization_alias="_embedded")


class NewApp(BaseModel):
    """An app to be made."""

    handle: str = Field(max_length=100)


class AppUpdate(BaseModel):
    """What may be changed of an app by itself: its name."""

    handle: str = Field(max_length=100)


class Configuration(Resource):
    """A version of an app's config; `env` is null where the client asks to leave it out."""

    id: int
    kind: Literal["configuration"] = Field(default="configuration", serialization_alias="_type")
    env: dict[str, str] | None


class Setting(Resource):
    """What a release was deployed from, and the credentials for that."""

    id: int
    kind: Literal["setting"] = Field(default="setting", serialization_alias="_type")
    settings: dict[str, str]
    sensitive_settings: dict[str, str] | None


def _app(asked: Asked, connection: Connection, app: apps.App, *, embed: bool = True) -> App:
    release = releases.current(connection, app)
    href = asked.href("apps", app.id)
    embedded = EmbeddedInApp()
    updated_at = release.created_at if release else app.created_at
    if embed:
        embedded = EmbeddedInApp(
            services=of_release(asked, connection, app, release),
            last_operation=_newest(asked, connection, app),
            last_deploy_operation=_newest(asked, connection, app, ("deploy", "rebuild")),
            current_image=_image(asked, app, release) if release else None,
        )
    version = configs.current_id(connection, app)
    return App(
        id=app.id,
        handle=app.handle,
        git_repo=asked.room.addresses.git_repo(app),
        status="provisioned" if release else "pending",
        deployment_method="docker_image" if release and release.artifact.image_name else "git_deploy",
        created_at=app.created_at,
        updated_at=updated_at,
        embedded=embedded,
        links=links(
            self=href,
            account=asked.href("accounts", app.environment_id),
            operations=f"{href}/operations",
            services=f"{href}/services",
            configurations=f"{href}/configurations",
            vhosts=f"{href}/vhosts",
            current_configuration=None if version is None else asked.href("configurations", version),
            current_setting=None if release is None else asked.href("settings", release.id),
        ),
    )


def _newest(
    asked: Asked,
    connection: Connection,
    app: apps.App,
    kinds: tuple[operation_records.Type, ...] = (),
) -> Operation | None:
    found = operation_records.newest_of_app(connection, app, kinds)
    if found is None:
        return None
    # Of a deploy that failed, the records do not tell what was to be deployed.
    made = releases.of_operation(connection, found.id)
    return operations.resource(asked, found, app, git_ref=made.artifact.commit if made else None)


def _image(asked: Asked, app: apps.App, release: Release) -> Image:
    artifact = release.artifact
    repository, _, digest = (artifact.image_digest or "").partition("@")
    return Image(
        id=release.id,
        git_repo=asked.room.addresses.git_repo(app) if artifact.commit else None,
        git_ref=artifact.commit,
        docker_repo=repository or artifact.image_name,
        docker_ref=digest or artifact.image,
        release=str(release.number),
        created_at=release.created_at,
        updated_at=release.created_at,
        links=links(app=asked.href("apps", app.id)),
    )


@routes.get("/apps", **answers(Collection[App]))
def list_apps(asked: Asking, page: Paged) -> Response:
    """List the apps that you have a role on."""
    with asked.reading() as (connection, user):
        found = apps.of_user(connection, user)
        shown = [_app(asked, connection, app, embed=not page.no_embed) for app in page.of(found)]
    return reply(collection(asked.href("apps"), "apps", shown, page, len(found)))


@routes.get("/accounts/{account_id}/apps", **answers(Collection[App]))
def list_apps_of_account(asked: Asking, account_id: Id, page: Paged) -> Response:
    """List those of them in one environment."""
    with asked.reading() as (connection, user):
        if account_id not in [place.id for place in places_of(connection, user)]:
            raise NoSuchEnvironmentError(str(account_id))
        found = [app for app in apps.of_user(connection, user) if app.environment_id == account_id]
        shown = [_app(asked, connection, app, embed=not page.no_embed) for app in page.of(found)]
    account = asked.href("accounts", account_id)
    return reply(collection(f"{account}/apps", "apps", shown, page, len(found), account=account))


@routes.post("/accounts/{account_id}/apps", **answers(App, 201))
def create_app(asked: Asking, account_id: Id, wanted: NewApp) -> Response:
    """Create an app in an environment."""
    with (
        asked.reading() as (connection, user),
        asked.accounted(user, "apps:create", app=named_app(wanted.handle), detail=f"id={account_id}", to_enter=False),
    ):
        environments = [place.handle for place in places_of(connection, user) if place.id == account_id]
        if not environments:
            raise NoSuchEnvironmentError(str(account_id))
    asked.run("apps:create", "--environment", environments[0], "--", wanted.handle)
    with asked.reading() as (connection, _):
        app = apps.by_handle(connection, wanted.handle)
        return reply(_app(asked, connection, app), 201)


@routes.get("/find/app", **answers(App))
def find_app(asked: Asking, handle: str, environment: str | None = None) -> Response:
    """Show the app of this name. Names are unique on a server, so there are never several."""
    with asked.reading() as (connection, user):
        with asked.accounted(user, "apps:show", app=named_app(handle), to_enter=False):
            app = apps.reachable(connection, user, handle, environment)
        return reply(_app(asked, connection, app))


@routes.get("/apps/{app_id}", **answers(App))
def show_app(asked: Asking, app_id: Id) -> Response:
    """Show an app."""
    with asked.reading() as (connection, _):
        return reply(_app(asked, connection, asked.app(connection, app_id, "apps:show")))


@routes.put("/apps/{app_id}", **answers(App))
def rename_app(asked: Asking, app_id: Id, wanted: AppUpdate) -> Response:
    """Give an app another name."""
    with asked.reading() as (connection, _):
        app = asked.app(connection, app_id, "apps:rename")
    if wanted.handle != app.handle:
        asked.run("apps:rename", "--environment", app.environment, "--", app.handle, wanted.handle)
    with asked.reading() as (connection, _):
        return reply(_app(asked, connection, asked.app(connection, app_id, "apps:show")))


def _owner(asked: Asked, connection: Connection, app_id: int | None, what: str) -> apps.App:
    """Return the app that something belongs to; raises ApiError if there is none that the user may reach."""
    try:
        return asked.app(connection, app_id or 0, "apps:show")  # asked all the same, so that the time tells nothing
    except NoSuchAppError:
        raise ApiError(HTTPStatus.NOT_FOUND, "not_found", f"there is no {what} of an app of yours") from None


def _values(asked: Asked, connection: Connection, app: apps.App, version_id: int) -> Config:
    """Return a version of an app's config, for those who may see its values. Raises RoleTooLowError."""
    asked.app(connection, app.id, "config")
    with asked.accounted(asked.user(connection), "config"):
        audit.about(app=app.handle, app_id=app.id)
        return configs.by_id(connection, asked.room.store.seal, app, version_id).values


def _configuration(asked: Asked, connection: Connection, app: apps.App, version_id: int) -> Configuration:
    env = None
    if asked.sensitive:
        values = _values(asked, connection, app, version_id)
        env = {name: values[name].reveal() for name in sorted(values) if name not in CREDENTIALS}
    return Configuration(
        id=version_id,
        env=env,
        links=links(self=asked.href("configurations", version_id), resource=asked.href("apps", app.id)),
    )


@routes.get("/apps/{app_id}/configurations", **answers(Collection[Configuration]))
def list_configurations(asked: Asking, app_id: Id, page: Paged) -> Response:
    """List the current version of an app's config, if it has one."""
    with asked.reading() as (connection, _):
        app = asked.app(connection, app_id, "apps:show")
        version = configs.current_id(connection, app)
        found = [] if version is None else [_configuration(asked, connection, app, version)]
    href = asked.href("apps", app_id, "configurations")
    return reply(collection(href, "configurations", page.of(found), page, len(found)))


@routes.get("/configurations/{version_id}", **answers(Configuration))
def show_configuration(asked: Asking, version_id: Id) -> Response:
    """Show a version of an app's config, its values unless `Prefer: no_sensitive_extras=true`."""
    with asked.reading() as (connection, _):
        app = _owner(asked, connection, configs.app_of(connection, version_id), f"configuration {version_id}")
        return reply(_configuration(asked, connection, app, version_id))


@routes.get("/settings/{release_id}", **answers(Setting))
def show_setting(asked: Asking, release_id: Id) -> Response:
    """Show what a release was deployed from; credentials unless `Prefer: no_sensitive_extras=true`."""
    with asked.reading() as (connection, _):
        app = _owner(asked, connection, releases.app_of(connection, release_id), f"setting {release_id}")
        release = releases.by_id(connection, release_id)
        sensitive = None
        if asked.sensitive:
            values = _values(asked, connection, app, release.config_version_id)
            sensitive = {name: values[name].reveal() for name in CREDENTIALS if name in values}
        image = release.artifact.image_name
    setting = Setting(
        id=release_id,
        settings={} if image is None else {IMAGE: image},
        sensitive_settings=sensitive,
        links=links(self=asked.href("settings", release_id), resource=asked.href("apps", app.id)),
    )
    return reply(setting)
