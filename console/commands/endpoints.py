"""`endpoints`: where an app answers."""

from __future__ import annotations

from console.grammar import Call, command, json_option, of_app
from store import endpoints as records


@command("endpoints")
@of_app
@json_option
def endpoints(call: Call, handle: str, environment: str | None, as_json: bool) -> None:
    """List the addresses at which an app answers, its own first."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        hosts = records.of_app(connection, app)
    addresses = call.room.addresses
    rows: list[dict[str, object]] = [{"url": addresses.url(app), "default": True}]
    rows += [{"url": addresses.url_of_host(host), "default": False} for host in hosts]
    call.print_rows(rows, as_json=as_json)
