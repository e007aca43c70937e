"""Endpoints, which public clients call vhosts: an app's own address, and the ways in that it has beside it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

from fastapi import Response
from pydantic import Field
from sqlalchemy import Connection

from console.api.asked import Asked, Asking
from console.api.errors import ApiError, CommandFailedError
from console.api.hal import Collection, Id, Moment, Paged, Resource, answers, collection, links, reply, router
from console.api.operations import NewOperation, Operation
from console.api.services import Service, located, of_release
from releaser.services import routed_name
from store import endpoints as records
from store import releases
from store.apps import App, NoSuchAppError
from store.endpoints import Endpoint

_HTTP_PORT = {"http": 80, "https": 443}

routes = router("endpoints")


class Vhost(Resource):
    """A way into an app. What this server's endpoints do not have is null, false or empty; clients want the names."""

    id: int
    kind: Literal["vhost"] = Field(default="vhost", serialization_alias="_type")
    type: Literal["http", "tcp"]
    status: Literal["provisioned", "provision_failed"]
    platform: str = "proxy"
    external_host: str
    """Host name or address, and the port if it is not the usual one."""
    external_http_port: int | None
    external_https_port: int | None
    internal: bool = False
    internal_host: str | None = None
    internal_http_port: int | None = None
    internal_https_port: int | None = None
    internal_health_port: int | None = None
    virtual_domain: str
    default: bool
    """Whether it is the app's own address, which it has as long as it is there."""
    acme: bool
    """Whether its certificate is renewed by the server."""
    acme_status: str | None
    acme_dns_challenge_host: str | None = None
    acme_configuration: str | None = None
    user_domain: str | None
    container_port: int | None
    """None is the port that the service is known by."""
    container_ports: list[int]
    container_exposed_ports: list[int] = Field(default_factory=list)
    host_mapped_ports: list[int] = Field(default_factory=list)
    ip_whitelist: list[str] = Field(default_factory=list)
    load_balancing_algorithm_type: str | None = None
    shared: bool
    """Whether it is a host name beside those of other apps, instead of a port of its own."""
    shared_fingerprint: str | None = None
    application_load_balancer_arn: str | None = None
    elastic_load_balancer_name: str | None = None
    security_group_id: str | None = None
    docker_name: str | None = None
    created_at: Moment
    updated_at: Moment


def _number(app: App, endpoint: Endpoint | None) -> int:
    """Return what an endpoint is called in links: odd for an app's own address, which has no record."""
    return 2 * app.id - 1 if endpoint is None else 2 * endpoint.id


def _vhost(asked: Asked, app: App, service: Service | None, endpoint: Endpoint | None) -> Vhost:
    addresses = asked.room.addresses
    url = urlsplit(addresses.url(app) if endpoint is None else addresses.url_of(endpoint))
    usual = url.port in (None, _HTTP_PORT.get(url.scheme))
    port = url.port or _HTTP_PORT.get(url.scheme)
    secure = endpoint is not None and endpoint.certificate is not None
    made = endpoint.created_at if endpoint and endpoint.created_at else app.created_at
    tcp = url.scheme == "tcp"
    number = _number(app, endpoint)
    return Vhost(
        id=number,
        type="tcp" if tcp else "http",
        status="provisioned" if endpoint is None or addresses.served(app, endpoint) else "provision_failed",
        external_host=(url.hostname or "") if usual else url.netloc,
        external_http_port=None if tcp else addresses.http_port if secure else port,
        external_https_port=addresses.https_port if secure else None,
        virtual_domain=url.netloc,
        default=endpoint is None,
        acme=endpoint is not None and endpoint.managed,
        acme_status=("ready" if secure else "pending") if endpoint is not None and endpoint.managed else None,
        user_domain=None if endpoint is None else endpoint.host,
        container_port=None if tcp or endpoint is None else endpoint.container_port,
        container_ports=[endpoint.container_port] if tcp and endpoint and endpoint.container_port else [],
        shared=not tcp and addresses.domain is not None,
        created_at=made,
        updated_at=made,
        links=links(
            self=asked.href("vhosts", number),
            service=None if service is None else service.links["self"].href,
            operations=asked.href("vhosts", number, "operations"),
        ),
    )


def _of_app(asked: Asked, connection: Connection, app: App) -> list[tuple[str | None, Vhost]]:
    """Return an app's endpoints, its own address first, each with the name of the service that is to answer there."""
    known = {each.process_type: each for each in of_release(asked, connection, app, releases.current(connection, app))}
    own = routed_name(known)
    found: list[Endpoint | None] = [None, *records.of_app(connection, asked.room.store.seal, app)]
    led = [((endpoint and endpoint.service) or own, endpoint) for endpoint in found]
    return [(name, _vhost(asked, app, known.get(name or ""), endpoint)) for name, endpoint in led]


@routes.get("/services/{service_id}/vhosts", **answers(Collection[Vhost]))
def list_endpoints_of_service(asked: Asking, service_id: Id, page: Paged) -> Response:
    """List the endpoints that lead to a service."""
    with asked.reading() as (connection, _):
        app, service = located(asked, connection, service_id, "endpoints")
        found = [each for name, each in _of_app(asked, connection, app) if name == service.process_type]
    href = asked.href("services", service_id)
    return reply(collection(f"{href}/vhosts", "vhosts", page.of(found), page, len(found), service=href))


@routes.get("/apps/{app_id}/vhosts", **answers(Collection[Vhost]))
def list_endpoints(asked: Asking, app_id: Id, page: Paged) -> Response:
    """List the endpoints of an app."""
    with asked.reading() as (connection, _):
        found = [each for _, each in _of_app(asked, connection, asked.app(connection, app_id, "endpoints"))]
    href = asked.href("apps", app_id)
    return reply(collection(f"{href}/vhosts", "vhosts", page.of(found), page, len(found), app=href))


def _located(asked: Asked, connection: Connection, number: int, action: str) -> tuple[App, Vhost]:
    try:
        owner = (number + 1) // 2 if number % 2 else records.app_of(connection, number // 2)
        app = asked.app(connection, owner or 0, action)
        return app, next(each for _, each in _of_app(asked, connection, app) if each.id == number)
    except (NoSuchAppError, StopIteration):
        raise ApiError(HTTPStatus.NOT_FOUND, "not_found", f"there is no endpoint {number} of an app of yours") from None


@routes.get("/vhosts/{vhost_id}", **answers(Vhost))
def show_endpoint(asked: Asking, vhost_id: Id) -> Response:
    """Show an endpoint."""
    with asked.reading() as (connection, _):
        return reply(_located(asked, connection, vhost_id, "endpoints")[1])


@routes.get("/vhosts/{vhost_id}/operations", **answers(Collection[Operation]))
def list_operations_of_endpoint(asked: Asking, vhost_id: Id, page: Paged) -> Response:
    """List an endpoint's operations: none, since what changes endpoints is over at once."""
    with asked.reading() as (connection, _):
        _located(asked, connection, vhost_id, "operations")
    nothing: list[Operation] = []
    return reply(collection(asked.href("vhosts", vhost_id, "operations"), "operations", nothing, page, 0))


def _over_ssh(asked: Asked, words: str) -> CommandFailedError:
    return CommandFailedError(2, f"endpoints are changed over SSH here: {asked.room.addresses.command(words)}")


def _told(asked: Asked, vhost_id: int, command: str) -> CommandFailedError:
    """Return how an endpoint is changed, for those who may; raises RoleTooLowError for others."""
    with asked.reading() as (connection, _):
        app, vhost = _located(asked, connection, vhost_id, command)
    if vhost.default:
        return CommandFailedError(2, f"{vhost.external_host} is the app's own address, and stays")
    name = vhost.user_domain or vhost.external_host.rpartition(":")[2]
    return _over_ssh(asked, f"{command} --app {app.handle} {name}")


@routes.post("/services/{service_id}/vhosts", **answers(Vhost, 201))
def create_endpoint(asked: Asking, service_id: Id) -> Response:
    """Refuse, and tell how it is done: endpoints are made over SSH."""
    with asked.reading() as (connection, _):
        app, service = located(asked, connection, service_id, "endpoints:create")
    raise _over_ssh(asked, f"endpoints:create --app {app.handle} --service {service.process_type} HOST")


@routes.put("/vhosts/{vhost_id}", **answers(Vhost))
def modify_endpoint(asked: Asking, vhost_id: Id) -> Response:
    """Refuse, and tell how it is done."""
    raise _told(asked, vhost_id, "endpoints:modify")


@routes.post("/vhosts/{vhost_id}/operations", **answers(Operation, 201))
def change_endpoint(asked: Asking, vhost_id: Id, wanted: NewOperation) -> Response:
    """Refuse, and tell how it is done: endpoints are removed and renewed over SSH."""
    raise _told(asked, vhost_id, "endpoints:renew" if wanted.type == "renew" else "endpoints:remove")
