"""`endpoints:renew`: a managed certificate is renewed now."""

from __future__ import annotations

import click

from console.commands.endpoints_modify import existing
from console.grammar import Call, command, of_app
from store.errors import UsageError


@command("endpoints:renew")
@of_app
@click.argument("host", metavar="HOST")
def endpoints_renew(call: Call, handle: str, environment: str | None, host: str) -> None:
    """Renew the managed certificate of the host name HOST now. They are renewed by themselves in good time.

    Should it fail, the certificate that is there stays in use.
    """
    endpoint = existing(call, handle, environment, host)
    if not endpoint.managed:
        raise UsageError(f"the certificate of {host} is not managed here; `endpoints:modify` takes a new one")
    call.room.certificates.renew(endpoint)
    call.print(f"The certificate of {endpoint.host} was renewed.")
