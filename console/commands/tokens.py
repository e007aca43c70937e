"""`tokens`: who is logged in over HTTP as you."""

from __future__ import annotations

from console.grammar import Call, command, json_option
from store import tokens as records


@command("tokens")
@json_option
def tokens(call: Call, as_json: bool) -> None:
    """List your access tokens: each is a login over HTTP that has not expired."""
    with call.room.store.read() as connection:
        found = records.of_user(connection, call.user)
    rows: list[dict[str, object]] = [
        {"id": token.id, "scope": token.scope, "created_at": token.created_at, "expires_at": token.expires_at}
        for token in found
    ]
    call.print_rows(rows, as_json=as_json)
