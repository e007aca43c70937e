"""`endpoints:create`: one more way into an app."""

from __future__ import annotations

import re

import click

from console.grammar import Call, command, of_app
from hooks.addresses import Addresses
from releaser import certificate as certificates
from releaser import services as processes
from releaser.procfile import MAX_NAME
from releaser.route import HIGHEST_PORT, Certificate, host_name
from store import endpoints as records
from store import releases
from store.apps import App
from store.endpoints import Endpoint
from store.errors import UsageError
from store.releases import Release
from store.secret import Secret

_SERVICE = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
"""As in a Procfile; see `releaser.procfile`."""

certificate_option = click.option(
    "--certificate",
    "--tls-certificate",
    "source",
    metavar="-",
    help="Serve HOST over TLS, with the certificate, its chain and its private key from standard input (PEM).",
)

managed_option = click.option(
    "--managed", is_flag=True, help="Serve HOST over TLS, with a certificate that the server gets and renews by itself."
)


@command("endpoints:create")
@of_app
@click.argument("host", metavar="[HOST]", required=False)
@certificate_option
@managed_option
@click.option("--redirect/--no-redirect", help="Send visitors over plain HTTP to HTTPS.")
@click.option("--tcp-port", type=click.IntRange(1, HIGHEST_PORT), help="Pass on what comes in at this port, as it is.")
@click.option("--service", metavar="SERVICE", help="The service that it leads to, instead of the app's own address's.")
@click.option("--port", type=click.IntRange(1, HIGHEST_PORT), help="The port in the containers.")
def endpoints_create(
    call: Call,
    handle: str,
    environment: str | None,
    host: str | None,
    source: str | None,
    managed: bool,
    redirect: bool,
    tcp_port: int | None,
    service: str | None,
    port: int | None,
) -> None:
    """Let an app answer at the host name HOST too, once its DNS leads here, or at a TCP port. Nothing is restarted.

    The app's own host name may be HOST as well, to give it a certificate:
    cat fullchain.pem privkey.pem | ssh … endpoints:create --app A HOST --certificate -

    While an operation of the app is under way, it takes effect a few seconds after that.
    """
    room = call.room
    if not room.addresses.proxied:
        raise UsageError("there is no proxy here (SLIPWAY_ROUTER=none), so apps answer at their own ports only")
    if (host is None) == (tcp_port is None):
        raise UsageError("name either a host name, or a port with --tcp-port")
    if tcp_port is not None and (source or managed or redirect):
        raise UsageError("a TCP port passes bytes on as they are; certificates and --redirect are for host names")
    if redirect and not source and not managed:
        raise UsageError("--redirect needs a certificate: --managed, or send one with --certificate -")
    if tcp_port is not None and tcp_port not in room.tcp_ports:
        raise UsageError(
            f"endpoints may open the ports {room.tcp_ports[0]} to {room.tcp_ports[-1]} here; "
            "choose one of them, or ask whoever runs the server for SLIPWAY_TCP_PORTS"
        )
    with room.store.read() as connection:
        app = call.app(connection, handle, environment)
        current = releases.current(connection, app)
    if host is not None:
        host = _usable(room.addresses, app, host)
    if service is not None:
        _check_service(handle, service, current)
    wanted = Endpoint(host, tcp_port, service, port, redirect=redirect)
    with room.store.read() as connection:
        records.check_free(connection, wanted)
    if tcp_port is not None and not room.usable(tcp_port):
        raise UsageError(f"another program listens on port {tcp_port}; choose another one")
    bundle = None if host is None else certificate_for(call, host, source, managed=managed)
    wanted = Endpoint(host, tcp_port, service, port, bundle, managed=managed, redirect=redirect)
    with room.store.write() as connection:
        records.add(connection, room.store.seal, call.app(connection, handle, environment), wanted)
    room.operations.upkeep.mend(app)
    call.print(room.addresses.url_of(wanted))


def _check_service(handle: str, service: str, current: Release | None) -> None:
    """Raise UsageError for a service that the app does not have, or, before its first release, could never have."""
    if current is None:
        if not _SERVICE.fullmatch(service):
            raise UsageError(
                f"{service[:63]!r} is no service's name; a Procfile names services with letters, digits, - _"
            )
        return
    known = processes.names(current.artifact.procfile)
    if service not in known:
        raise UsageError(f"{handle} has no service {service[:63]!r}; it has {', '.join(known)}")


def _usable(addresses: Addresses, app: App, host: str) -> str:
    if addresses.domain is None:
        raise UsageError(
            "apps answer at ports of their own here, not at host names; whoever runs the server can set SLIPWAY_DOMAIN"
        )
    host = host_name(host)
    if addresses.under_domain(host) and host != f"{app.handle}.{addresses.domain}":
        raise UsageError(f"names under {addresses.domain} belong to the apps that are called so; choose another one")
    return host


def certificate_for(call: Call, host: str, source: str | None, *, managed: bool) -> Secret | None:
    """Return the certificate that is on standard input, or that an authority issues; None if neither is asked for.

    Raises UsageError for one that is no good, AcmeError if there is none.
    """
    if source is None and not managed:
        return None
    if source is not None and managed:
        raise UsageError("a managed certificate is not sent along; leave out --certificate or --managed")
    if call.room.addresses.https_port is None:
        raise UsageError("this server does not serve TLS; whoever runs it can set SLIPWAY_HTTPS, to 0.0.0.0:443 say")
    if managed:
        return call.room.certificates.issue(host)
    if source != "-":
        raise UsageError(
            "a certificate comes over standard input: cat fullchain.pem privkey.pem | … --certificate - "
            "(files on the server are not read)"
        )
    bundle = certificates.bundle(call.read_input(), host)
    call.room.releaser.check_certificate(Certificate.of(bundle))
    return bundle
