"""Operations: opened, watched and cancelled over HTTP, and where their logs are."""

from __future__ import annotations

import hmac
import time
from http import HTTPStatus
from typing import Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from starlette.responses import PlainTextResponse

from console import sessions
from console.api.asked import Asked, Asking, site, words_of
from console.api.errors import MEDIA_TYPE, ApiError, CommandFailedError, Problem
from console.api.hal import Collection, Id, Moment, Paged, Resource, answers, collection, links, reply, router
from console.api.services import PROFILE, located
from console.commands.deploy import IMAGE
from console.deeds import UNRECORDED
from console.portal import Portal
from hooks.artifacts import NothingToReleaseError
from hooks.pre_receive import ZERO
from store import apps, audit, config, releases
from store import operations as records
from store.apps import App
from store.errors import RefusedError, UsageError
from store.keys import PublicKey
from store.secret import Secret
from store.tables import now

LOG_SECONDS = 300
"""How long the address of a log leads to it."""

STATUS: dict[records.Status, Literal["queued", "running", "succeeded", "failed"]] = {
    "queued": "queued",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "failed",
}
"""The statuses that clients know; one that was cancelled has failed, and says so in `cancelled`."""

COMMANDS = {
    "configure": "config:set",
    "deploy": "deploy",
    "rebuild": "rebuild",
    "restart": "restart",
    "deprovision": "apps:deprovision",
    **sessions.COMMANDS,
}
"""The command that each type of operation of an app stands for."""

routes = router("operations")


class Operation(Resource):
    """What was asked for, and what became of it. What it was given is never shown: it may be secret."""

    id: int
    kind: Literal["operation"] = Field(default="operation", serialization_alias="_type")
    type: str
    status: Literal["queued", "running", "succeeded", "failed"]
    cancelled: bool
    aborted: bool = False
    error: str | None
    """Why it failed, in a sentence."""
    git_ref: str | None = None
    docker_ref: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    container_size: int | None = None
    container_count: int | None = None
    disk_size: int = 0
    command: str | None = None
    interactive: bool | None = None
    handle: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    user_name: str
    user_email: str
    destination_region: str | None = None
    instance_profile: str | None = None
    mount_point: str | None = None
    daily: int | None = None
    monthly: int | None = None
    yearly: int | None = None
    pitr_days: int | None = None
    make_copy: bool | None = None
    keep_final: bool | None = None
    created_at: Moment
    updated_at: Moment


class NewOperation(BaseModel):
    """An operation to be opened; which fields count depends on its type."""

    type: str = Field(max_length=64)
    env: dict[str, str | None] | None = None
    settings: dict[str, str | None] | None = None
    sensitive_settings: dict[str, str | None] | None = None
    git_ref: str | None = Field(default=None, max_length=1024)
    container_count: int | None = None
    container_size: int | None = None
    instance_profile: str | None = None
    command: str | None = Field(default=None, max_length=65_536)
    interactive: bool | None = None
    """Told back as it is: what counts is whether the client brings a terminal to the portal."""


class OperationUpdate(BaseModel):
    """What may be changed of an operation: that it goes on."""

    cancelled: Literal[True]


class PortalConnection(Resource):
    """How to connect to the SSH portal, once."""

    id: str
    kind: Literal["ssh_portal_connection"] = Field(default="ssh_portal_connection", serialization_alias="_type")
    ssh_user: str
    ssh_certificate_body: str = ""
    """None is needed: the key does."""
    ssh_port_forward_socket: int | None = None
    ssh_pty: bool
    """Whether the client may ask for a pseudo-terminal."""
    created_at: Moment
    updated_at: Moment


class NewPortalConnection(BaseModel):
    """The key that a client connects with."""

    ssh_public_key: str = Field(max_length=16_384)


def resource(asked: Asked, operation: records.Operation, app: App, **more: object) -> Operation:
    """Return an operation of an app as clients know it; `more` are fields that the record does not have.

    One of an app that there is no more has no link to it: clients follow it to tell the app's name.
    """
    href = asked.href("operations", operation.id)
    ended = operation.finished_at or operation.started_at or operation.created_at
    return Operation.model_validate(
        {
            "id": operation.id,
            "type": operation.type,
            "status": STATUS[operation.status],
            "cancelled": operation.status == "cancelled",
            "error": operation.error,
            "user_name": operation.user,
            "user_email": operation.user,
            "created_at": operation.created_at,
            "updated_at": ended,
            "links": links(
                self=href,
                resource=None if app.deleted_at else asked.href("apps", app.id),
                account=asked.href("accounts", app.environment_id),
                ssh_portal_connections=f"{href}/ssh_portal_connections",
                logs=f"{href}/logs",
            ),
            **more,
        }
    )


def _found(asked: Asked, number: int, action: str) -> tuple[records.Operation, App]:
    """Return an operation and its app, which may be one that there is no more."""
    call = asked.call(action)
    with asked.accounted(call.user, action, detail=f"number={number}", to_enter=False):
        operation = call.operation(number)
    with asked.room.store.read() as connection:
        return operation, apps.by_id(connection, operation.app_id)


@routes.get("/apps/{app_id}/operations", **answers(Collection[Operation]))
def list_operations(asked: Asking, app_id: Id, page: Paged) -> Response:
    """List an app's operations, newest first."""
    with asked.reading() as (connection, _):
        app = asked.app(connection, app_id, "operations")
        return reply(_listed(asked, connection, app, page, asked.href("apps", app_id, "operations")))


@routes.get("/services/{service_id}/operations", **answers(Collection[Operation]))
def list_operations_of_service(asked: Asking, service_id: Id, page: Paged) -> Response:
    """List the operations of a service's app: they are about all of its services."""
    with asked.reading() as (connection, _):
        app, _service = located(asked, connection, service_id, "operations")
        return reply(_listed(asked, connection, app, page, asked.href("services", service_id, "operations")))


def _listed(asked: Asked, connection: Connection, app: App, page: Paged, href: str) -> Collection[Operation]:
    found, total = records.page_of_app(connection, app, page.per_page, page.offset)
    return collection(href, "operations", [resource(asked, each, app) for each in found], page, total)


@routes.post("/apps/{app_id}/operations", **answers(Operation, 201))
def open_operation(asked: Asking, app_id: Id, wanted: NewOperation) -> Response:
    """Deploy, configure, rebuild, restart or deprovision an app, or ask for its logs or a command in it."""
    with asked.reading() as (connection, _):
        app = asked.app(connection, app_id, COMMANDS.get(wanted.type, "apps:show"))
    match wanted.type:
        case "configure":
            return _opened(asked, app, COMMANDS[wanted.type], "--", *_pairs(wanted.env))
        case "deploy":
            return _opened(asked, app, COMMANDS[wanted.type], *_deploy_words(wanted))
        case "rebuild" | "restart" | "deprovision":
            return _opened(asked, app, COMMANDS[wanted.type])
        case "logs" | "execute":
            return _session(asked, app, wanted.type, wanted)
    raise UsageError(
        f"an app has no operation of type {wanted.type[:40]!r}; there are configure, deploy, rebuild, restart, "
        "deprovision, logs and execute, and scale on a service"
    )


@routes.post("/services/{service_id}/operations", **answers(Operation, 201))
def scale(asked: Asking, service_id: Id, wanted: NewOperation) -> Response:
    """Scale a service."""
    with asked.reading() as (connection, _):
        app, service = located(asked, connection, service_id, "apps:scale" if wanted.type == "scale" else "apps:show")
    if wanted.type != "scale":
        raise UsageError(f"a service has no operation of type {wanted.type[:40]!r} here; there is scale")
    words = _scale_words(wanted)
    if not words and wanted.instance_profile is not None:
        # The profile that it has already: the same containers once more.
        words = [f"--container-count={service.container_count}"]
    return _opened(asked, app, "apps:scale", *words, "--", service.process_type)


def _opened(asked: Asked, app: App, command: str, *words: str) -> Response:
    operation = asked.run(command, *words_of(app), *words).operation
    if operation is None:
        raise CommandFailedError(1, f"{command} opened no operation")
    return reply(resource(asked, operation, app), 201)


def _session(asked: Asked, app: App, kind: Literal["logs", "execute"], wanted: NewOperation) -> Response:
    if kind == "execute" and not wanted.command:
        raise UsageError("an execute operation takes a command")
    command = sessions.COMMANDS[kind]
    call = asked.call(command)
    with asked.room.store.read() as connection:
        if releases.current(connection, app) is None:
            raise NothingToReleaseError(f"{app.handle} has not been deployed yet; deploy it first")
    with asked.accounted(call.user, command, to_enter=command not in UNRECORDED):
        audit.about(app=app.handle, app_id=app.id)
        operation = sessions.note(call, app, kind, wanted.command)
    return reply(resource(asked, operation, app, command=wanted.command, interactive=wanted.interactive), 201)


def _pairs(*variables: dict[str, str | None] | None) -> list[str]:
    """Return variables as words, KEY=VALUE; null unsets, as an empty value does. Raises UsageError."""
    changes = {name: Secret(value or "") for each in variables if each for name, value in each.items()}
    config.check(changes)  # a name with = in it would be another one as a word
    return [f"{name}={value.reveal()}" for name, value in changes.items()]


def _scale_words(wanted: NewOperation) -> list[str]:
    """Return the options that name a scale. Raises UsageError for a profile that there is none of."""
    if wanted.instance_profile is not None and wanted.instance_profile[:1].lower() != PROFILE:
        raise UsageError(f"containers have one profile here, {PROFILE}; leave the profile out")
    words = []
    if wanted.container_count is not None:
        words.append(f"--container-count={wanted.container_count}")
    if wanted.container_size is not None:
        words.append(f"--container-size={wanted.container_size}")
    return words


def _deploy_words(wanted: NewOperation) -> list[str]:
    """Return the words of `deploy` for both ways of naming image and credentials. Raises UsageError."""
    unknown = (wanted.settings or {}).keys() - {IMAGE}
    if unknown:
        raise UsageError(f"{min(unknown)[:80]!r} is no setting; there is {IMAGE}")
    words = _scale_words(wanted)
    if wanted.git_ref == ZERO:
        words.append("--git-detach")
    elif wanted.git_ref:
        words.append(f"--git-commitish={wanted.git_ref}")
    if image := (wanted.settings or {}).get(IMAGE):
        words.append(f"--docker-image={image}")
    return [*words, "--", *_pairs(wanted.env, wanted.sensitive_settings)]


@routes.get("/operations/{operation_id}", **answers(Operation))
def show_operation(asked: Asking, operation_id: Id) -> Response:
    """Show an operation and how it is getting on."""
    operation, app = _found(asked, operation_id, "operations")
    return reply(resource(asked, operation, app))


@routes.put("/operations/{operation_id}", **answers(Operation))
def cancel(asked: Asking, operation_id: Id, _wanted: OperationUpdate) -> Response:
    """Cancel an operation."""
    _found(asked, operation_id, "operation:cancel")
    asked.run("operation:cancel", str(operation_id))
    operation, app = _found(asked, operation_id, "operations")
    return reply(resource(asked, operation, app))


@routes.get("/operations/{operation_id}/ssh_portal_connections", **answers(Collection[PortalConnection]))
def list_portal_connections(asked: Asking, operation_id: Id, page: Paged) -> Response:
    """List the connections that were asked for: none, since each is told once."""
    _found(asked, operation_id, "operation:follow")
    href = asked.href("operations", operation_id, "ssh_portal_connections")
    nothing: list[PortalConnection] = []
    return reply(collection(href, "ssh_portal_connections", nothing, page, 0))


@routes.post("/operations/{operation_id}/ssh_portal_connections", **answers(PortalConnection, 201))
def connect(asked: Asking, operation_id: Id, wanted: NewPortalConnection) -> Response:
    """Ask for a connection to the SSH portal, which shows the operation's log or does what a session is for."""
    operation, app = _found(asked, operation_id, "operation:follow")
    key = PublicKey.parse(wanted.ssh_public_key)
    with asked.reading() as (_connection, user):
        pass
    command = sessions.COMMANDS.get(operation.type)
    if command and operation.user != user.name:
        with asked.accounted(user, command, detail=f"number={operation_id}"):
            audit.about(app=app.handle, app_id=app.id, operation=operation_id)
            raise RefusedError("this session is somebody else's; ask for one of your own")
    portal: Portal = asked.room.portal
    name = portal.permit(operation.id, user.id, key.key)
    href = asked.href("operations", operation_id)
    moment = now()
    made = PortalConnection(
        id=name,
        ssh_user=name,
        ssh_pty=operation.type == "execute",
        created_at=moment,
        updated_at=moment,
        links=links(operation=href),
    )
    return reply(made, 201)


_TEXT_OR_PROBLEM: dict[int | str, dict[str, Any]] = {
    "4XX": {"content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}
"""What answers in plain text are declared to be, if they are none."""


@routes.get("/operations/{operation_id}/logs", response_class=PlainTextResponse, responses=_TEXT_OR_PROBLEM)
def locate_log(asked: Asking, operation_id: Id, request: Request) -> Response:
    """Tell the address of an operation's log. It needs no token, and leads there for five minutes."""
    _found(asked, operation_id, "operation:logs")
    expires = int(time.time()) + LOG_SECONDS
    signature = site(request).key.signature(f"log of operation {operation_id} until {expires}")
    return PlainTextResponse(f"{asked.href('operations', operation_id, 'log')}?expires={expires}&signature={signature}")


@routes.get("/operations/{operation_id}/log", response_class=PlainTextResponse, responses=_TEXT_OR_PROBLEM)
def show_log(request: Request, operation_id: Id, expires: int, signature: str) -> Response:
    """Return an operation's log, to whoever has its signed address."""
    here = site(request)
    told = here.key.signature(f"log of operation {operation_id} until {expires}")
    if not hmac.compare_digest(told.encode(), signature.encode()):
        raise ApiError(HTTPStatus.FORBIDDEN, "forbidden", "this is not an address that the server has given out")
    if expires < time.time():
        raise ApiError(HTTPStatus.FORBIDDEN, "forbidden", "this address has expired; ask for the log again")
    path = here.room.operations.logs.path(operation_id)
    if not path.exists():
        raise ApiError(HTTPStatus.NOT_FOUND, "not_found", "this operation's log is not kept any more")
    return PlainTextResponse(path.read_bytes())
