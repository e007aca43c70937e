"""Services of apps, and what changes their scale and settings."""

from __future__ import annotations

from typing import Literal

from fastapi import Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from console.api.asked import Asked, Asking, words_of
from console.api.errors import CommandFailedError
from console.api.hal import Collection, Id, Moment, Paged, Resource, answers, collection, links, reply, router
from releaser import services as processes
from releaser.engine import STOP_SECONDS
from store import releases
from store import services as records
from store.apps import App, NoSuchAppError
from store.errors import UsageError
from store.releases import Release
from store.services import NoSuchServiceNumberError

INSTANCE_CLASS = "m5"
"""The one class of containers: clients take its first letter for the profile."""

PROFILE = "m"

routes = router("services")


class Service(Resource):
    """One service of an app's current release."""

    id: int
    kind: Literal["service"] = Field(default="service", serialization_alias="_type")
    handle: str
    process_type: str
    command: str | None
    """None where it is the image's own."""
    container_count: int
    container_memory_limit_mb: int
    instance_class: str = INSTANCE_CLASS
    force_zero_downtime: bool
    naive_health_check: bool
    restart_free_scaling: bool = False
    stop_timeout: int = STOP_SECONDS
    docker_repo: str | None = None
    docker_ref: str | None
    created_at: Moment
    updated_at: Moment


class SizingPolicy(Resource):
    """How a service would be scaled by itself; there is none here."""


class ServiceUpdate(BaseModel):
    """What may be changed of a service."""

    force_zero_downtime: bool | None = None
    naive_health_check: bool | None = None
    restart_free_scaling: bool | None = None
    stop_timeout: int | None = None


def of_release(asked: Asked, connection: Connection, app: App, release: Release | None) -> list[Service]:
    """Return the services of an app's current release, in its order; none before the first one."""
    if release is None:
        return []
    commands = processes.names(release.artifact.procfile)
    known = records.recorded(connection, app)
    if commands.keys() - known.keys():
        # Released before services had numbers.
        with asked.room.store.write() as writing:
            records.number(writing, app, commands)
            known = records.recorded(writing, app)
    return [_service(asked, app, release, known[name], line) for name, line in commands.items()]


def _service(asked: Asked, app: App, release: Release, service: records.Service, line: str | None) -> Service:
    href = asked.href("services", service.id)
    return Service(
        id=service.id,
        handle=f"{app.handle}-{service.name}",
        process_type=service.name,
        command=line,
        container_count=service.settings.container_count,
        container_memory_limit_mb=service.settings.container_memory_mb,
        force_zero_downtime=service.settings.force_zero_downtime,
        naive_health_check=service.settings.simple_health_check,
        docker_ref=release.artifact.image,
        created_at=service.created_at,
        updated_at=max(service.created_at, release.created_at),
        links=links(
            self=href,
            app=asked.href("apps", app.id),
            account=asked.href("accounts", app.environment_id),
            operations=f"{href}/operations",
            service_sizing_policies=f"{href}/service_sizing_policies",
            vhosts=f"{href}/vhosts",
        ),
    )


def located(asked: Asked, connection: Connection, service_id: int, action: str) -> tuple[App, Service]:
    """Return a service and its app, for the command `action`. Raises NoSuchServiceNumberError, RoleTooLowError."""
    try:
        app_id, _name = records.place_of(connection, service_id)
        app = asked.app(connection, app_id, action)
    except (NoSuchServiceNumberError, NoSuchAppError):
        asked.user(connection)
        raise NoSuchServiceNumberError(service_id) from None
    for service in of_release(asked, connection, app, releases.current(connection, app)):
        if service.id == service_id:
            return app, service
    raise NoSuchServiceNumberError(service_id)


@routes.get("/apps/{app_id}/services", **answers(Collection[Service]))
def list_services(asked: Asking, app_id: Id, page: Paged) -> Response:
    """List the services of an app's current release."""
    with asked.reading() as (connection, _):
        app = asked.app(connection, app_id, "services")
        found = of_release(asked, connection, app, releases.current(connection, app))
    href = asked.href("apps", app_id)
    return reply(collection(f"{href}/services", "services", page.of(found), page, len(found), app=href))


@routes.get("/services/{service_id}", **answers(Service))
def show_service(asked: Asking, service_id: Id) -> Response:
    """Show a service."""
    with asked.reading() as (connection, _):
        return reply(located(asked, connection, service_id, "services")[1])


@routes.put("/services/{service_id}", **answers(Service))
def change_service(asked: Asking, service_id: Id, wanted: ServiceUpdate) -> Response:
    """Change how a service is replaced. It opens an operation, which restarts the app, if anything is to change."""
    with asked.reading() as (connection, _):
        app, service = located(asked, connection, service_id, "services:settings")
    if wanted.restart_free_scaling or wanted.stop_timeout not in (None, STOP_SECONDS):
        raise UsageError(
            f"here, containers get {STOP_SECONDS} seconds to stop and scaling replaces them; "
            "restart_free_scaling and stop_timeout cannot be changed"
        )
    options = []
    if wanted.force_zero_downtime not in (None, service.force_zero_downtime):
        options.append("--force-zero-downtime" if wanted.force_zero_downtime else "--no-force-zero-downtime")
    if wanted.naive_health_check not in (None, service.naive_health_check):
        options.append("--simple-health-check" if wanted.naive_health_check else "--no-simple-health-check")
    if options:
        asked.run("services:settings", *words_of(app), *options, "--", service.process_type)
    changed = wanted.model_dump(exclude_none=True)
    return reply(service.model_copy(update=changed))


@routes.get("/services/{service_id}/service_sizing_policies", **answers(Collection[SizingPolicy]))
def list_sizing_policies(asked: Asking, service_id: Id, page: Paged) -> Response:
    """List how a service is scaled by itself: in no way."""
    with asked.reading() as (connection, _):
        located(asked, connection, service_id, "services")
    href = asked.href("services", service_id, "service_sizing_policies")
    nothing: list[SizingPolicy] = []
    return reply(collection(href, "service_sizing_policies", nothing, page, 0))


@routes.post("/services/{service_id}/service_sizing_policies", **answers(SizingPolicy))
def create_sizing_policy(asked: Asking, service_id: Id) -> Response:
    """Refuse: services are scaled by hand."""
    with asked.reading() as (connection, _):
        located(asked, connection, service_id, "apps:scale")
    raise CommandFailedError(2, "services are not scaled by themselves here; scale them with apps:scale")
