"""`endpoints:create`: a further host name of an app."""

from __future__ import annotations

import click

from console.grammar import Call, command, of_app
from releaser.release import host_name
from store import endpoints as records
from store.errors import UsageError


@command("endpoints:create")
@of_app
@click.argument("host", metavar="HOST")
def endpoints_create(call: Call, handle: str, environment: str | None, host: str) -> None:
    """Let an app answer at the host name HOST too, once its DNS leads here. Nothing is restarted.

    While an operation of the app is under way, it takes effect a few seconds after that.
    """
    domain = call.room.addresses.domain
    if domain is None:
        raise UsageError(
            "apps answer at ports of their own here, not at host names; whoever runs the server can set SLIPWAY_DOMAIN"
        )
    host = host_name(host)
    if host == domain or host.endswith(f".{domain}"):
        raise UsageError(f"names under {domain} belong to the apps that are called so; choose another one")
    with call.room.store.write() as connection:
        app = call.app(connection, handle, environment)
        records.add(connection, app, host)
    call.room.operations.mend(app)
    call.print(call.room.addresses.url_of_host(host))
