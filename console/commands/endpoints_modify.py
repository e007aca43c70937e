"""`endpoints:modify`: another certificate for a host name, or another rule for plain HTTP."""

from __future__ import annotations

import click

from console.commands.endpoints_create import certificate_for, certificate_option, managed_option
from console.grammar import Call, command, of_app
from store import endpoints as records
from store.endpoints import Endpoint
from store.errors import UsageError


def existing(call: Call, handle: str, environment: str | None, name: str) -> Endpoint:
    """Return an app's endpoint by its host name or port. Raises UsageError if it has none of that name."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        found = records.named(connection, call.room.store.seal, app, name)
    if found is None:
        raise UsageError(f"{handle} has no endpoint {name[:253]!r}; `endpoints --app {handle}` lists them")
    return found


@command("endpoints:modify")
@of_app
@click.argument("host", metavar="HOST")
@certificate_option
@managed_option
@click.option("--redirect/--no-redirect", default=None, help="Send visitors over plain HTTP to HTTPS, or do not.")
def endpoints_modify(
    call: Call,
    handle: str,
    environment: str | None,
    host: str,
    source: str | None,
    managed: bool,
    redirect: bool | None,
) -> None:
    """Change the certificate of the host name HOST, or what happens to plain HTTP. No connection is dropped.

    A certificate that is no good changes nothing: the one that is there stays.
    """
    endpoint = existing(call, handle, environment, host)
    if endpoint.host is None:
        raise UsageError(f"{host} is a TCP port, which has no certificate; remove it and create another one instead")
    if source is None and redirect is None and not managed:
        raise UsageError("name what to change: --certificate -, --managed, --redirect or --no-redirect")
    bundle = certificate_for(call, endpoint.host, source, managed=managed) or endpoint.certificate
    redirect = endpoint.redirect if redirect is None else redirect
    if redirect and bundle is None:
        raise UsageError("--redirect needs a certificate: --managed, or send one with --certificate -")
    room = call.room
    with room.store.write() as connection:
        app = call.app(connection, handle, environment)
        records.change(
            connection,
            room.store.seal,
            endpoint,
            certificate=bundle,
            managed=managed or (endpoint.managed and source is None),
            redirect=redirect,
        )
    room.operations.upkeep.mend(app)
