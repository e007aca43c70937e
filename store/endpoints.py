"""The endpoints of apps: the ways in that an app has beside its own address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Row, func, select

from store.apps import App
from store.errors import SlipwayError
from store.seal import Seal
from store.secret import Secret
from store.tables import apps, endpoints, now

MOST_ENDPOINTS = 100
"""Of one app. Each is a rule that the proxy goes through, for the visitors of all apps."""


class TooManyEndpointsError(SlipwayError):
    """The app has as many endpoints as an app may have."""


class EndpointTakenError(SlipwayError):
    """The host name or the port leads to an app already."""


@dataclass(frozen=True)
class Endpoint:
    """A host name on the proxy's shared ports, or a TCP port of its own: exactly one of the two is there."""

    host: str | None = None
    tcp_port: int | None = None
    service: str | None = None
    """None is the service that answers at the app's own address."""
    container_port: int | None = None
    """None is the port that the service is known by."""
    certificate: Secret | None = None
    """PEM: the private key, the certificate and its chain."""
    managed: bool = False
    """Whether the certificate comes from a certificate authority over ACME, and is renewed by itself."""
    redirect: bool = False
    """Whether plain HTTP is redirected to HTTPS."""
    id: int = 0
    app_id: int = 0
    renewal_tried_at: datetime | None = None
    """When a renewal failed the last time, None if none has since the last one that did not."""
    renewal_error: str | None = None
    created_at: datetime | None = None
    """None before it is recorded."""

    @property
    def name(self) -> str:
        """What its owner calls it."""
        return self.host if self.host is not None else str(self.tcp_port)


def place(name: str) -> str:
    """Return what an endpoint's sealed certificate is bound to; the name is its host name or its port."""
    return f"certificate of {name}"


def add(connection: Connection, seal: Seal, app: App, endpoint: Endpoint) -> None:
    """Give an app an endpoint. Raises TooManyEndpointsError, or EndpointTakenError, which does not tell whose it is."""
    check_free(connection, endpoint)
    count = select(func.count()).select_from(endpoints).where(endpoints.c.app_id == app.id)
    if connection.execute(count).scalar_one() >= MOST_ENDPOINTS:
        raise TooManyEndpointsError(f"{app.handle} has {MOST_ENDPOINTS} endpoints, the most that there may be")
    sealed = endpoint.certificate and seal.close(endpoint.certificate.reveal().encode(), place(endpoint.name))
    connection.execute(
        endpoints.insert().values(
            app_id=app.id,
            host=endpoint.host,
            tcp_port=endpoint.tcp_port,
            service=endpoint.service,
            container_port=endpoint.container_port,
            certificate=sealed,
            managed=endpoint.managed,
            redirect=endpoint.redirect,
        )
    )


def check_free(connection: Connection, endpoint: Endpoint) -> None:
    """Raise EndpointTakenError if the host name or the port leads to an app already."""
    if endpoint.host is not None:
        if connection.execute(select(endpoints.c.id).where(endpoints.c.host == endpoint.host)).first():
            raise EndpointTakenError(
                f"{endpoint.host} leads to an app already; choose another name, or remove that endpoint first"
            )
        return
    taken = select(endpoints.c.id).where(endpoints.c.tcp_port == endpoint.tcp_port)
    own = select(apps.c.id).where(apps.c.port == endpoint.tcp_port)
    if connection.execute(taken).first() or connection.execute(own).first():
        raise EndpointTakenError(f"port {endpoint.tcp_port} leads to an app already; choose another one")


def remove(connection: Connection, app: App, name: str) -> bool:
    """Take an app's endpoint away, by its host name or port; return whether it was there."""
    return connection.execute(endpoints.delete().where(_named(app, name))).rowcount > 0


def _named(app: App, name: str) -> ColumnElement[bool]:
    by_name = endpoints.c.host == name.lower()
    if name.isascii() and name.isdigit() and len(name) <= 5:
        by_name = endpoints.c.tcp_port == int(name)
    return (endpoints.c.app_id == app.id) & by_name


def named(connection: Connection, seal: Seal, app: App, name: str) -> Endpoint | None:
    """Return an app's endpoint by its host name or port, None if it has no such."""
    row = connection.execute(select(endpoints).where(_named(app, name))).first()
    return None if row is None else _endpoint(seal, row)


def change(
    connection: Connection,
    seal: Seal,
    endpoint: Endpoint,
    *,
    certificate: Secret | None,
    managed: bool,
    redirect: bool,
) -> None:
    """Give an endpoint another certificate, None for none, and other settings; what failed before is forgotten."""
    sealed = certificate and seal.close(certificate.reveal().encode(), place(endpoint.name))
    connection.execute(
        endpoints.update()
        .where(endpoints.c.id == endpoint.id)
        .values(certificate=sealed, managed=managed, redirect=redirect, renewal_tried_at=None, renewal_error=None)
    )


def renewal_failed(connection: Connection, endpoint: Endpoint, error: str) -> None:
    """Record why a managed certificate could not be renewed; the one that is there stays."""
    connection.execute(
        endpoints.update().where(endpoints.c.id == endpoint.id).values(renewal_tried_at=now(), renewal_error=error)
    )


def of_app(connection: Connection, seal: Seal, app: App) -> list[Endpoint]:
    """Return the endpoints of an app, host names first, in their order."""
    return _found(connection, seal, endpoints.c.app_id == app.id)


def app_of(connection: Connection, endpoint_id: int) -> int | None:
    """Return the record id of the app that an endpoint belongs to, None if there is no such endpoint."""
    found: int | None = connection.execute(
        select(endpoints.c.app_id).where(endpoints.c.id == endpoint_id)
    ).scalar_one_or_none()
    return found


def managed(connection: Connection, seal: Seal) -> list[Endpoint]:
    """Return every endpoint whose certificate is renewed here."""
    return _found(connection, seal, endpoints.c.managed)


def tcp_ports(connection: Connection) -> set[int]:
    """Return every TCP port that an endpoint has."""
    found: Iterable[int | None] = connection.execute(select(endpoints.c.tcp_port)).scalars()
    return {port for port in found if port is not None}


def _found(connection: Connection, seal: Seal, which: ColumnElement[bool]) -> list[Endpoint]:
    question = select(endpoints).where(which).order_by(endpoints.c.tcp_port, endpoints.c.host)
    found = [_endpoint(seal, row) for row in connection.execute(question)]
    return sorted(found, key=lambda each: (each.host is None, each.host or "", each.tcp_port or 0))


def _endpoint(seal: Seal, row: Row[tuple[object, ...]]) -> Endpoint:
    name = row.host if row.host is not None else str(row.tcp_port)
    opened = row.certificate and Secret(seal.open(row.certificate, place(name)).decode())
    return Endpoint(
        host=row.host,
        tcp_port=row.tcp_port,
        service=row.service,
        container_port=row.container_port,
        certificate=opened,
        managed=row.managed,
        redirect=row.redirect,
        id=row.id,
        app_id=row.app_id,
        renewal_tried_at=row.renewal_tried_at,
        renewal_error=row.renewal_error,
        created_at=row.created_at,
    )
