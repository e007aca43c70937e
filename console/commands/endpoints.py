"""`endpoints`: where an app answers."""

from __future__ import annotations

from console.grammar import Call, command, json_option, of_app
from releaser import certificate
from store import endpoints as records

_NOT_SERVED = "not served: the app was renamed, or the server's settings have changed; remove it"


@command("endpoints")
@of_app
@json_option
def endpoints(call: Call, handle: str, environment: str | None, as_json: bool) -> None:
    """List the addresses at which an app answers, its own first, and until when their certificates are valid."""
    room = call.room
    with room.store.read() as connection:
        app = call.app(connection, handle, environment)
        found = records.of_app(connection, room.store.seal, app)
    rows: list[dict[str, object]] = [
        {
            "url": room.addresses.url(app),
            "default": True,
            "service": None,
            "port": None,
            "certificate": None,
            "expires_at": None,
            "redirect": False,
            "problem": None,
        }
    ]
    for each in found:
        kind = None if each.certificate is None else "managed" if each.managed else "given"
        problem = each.renewal_error if room.addresses.served(app, each) else _NOT_SERVED
        rows.append(
            {
                "url": room.addresses.url_of(each),
                "default": False,
                "service": each.service,
                "port": each.container_port,
                "certificate": kind,
                "expires_at": None if each.certificate is None else certificate.validity(each.certificate)[1],
                "redirect": each.redirect,
                "problem": problem,
            }
        )
    call.print_rows(rows, as_json=as_json)
