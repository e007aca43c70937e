"""`users`: who may use this server."""

from __future__ import annotations

from console.grammar import Call, command, json_option
from store import access, keys
from store import users as records


@command("users")
@json_option
def users(call: Call, as_json: bool) -> None:
    """List all users (for administrators)."""
    with call.room.store.read() as connection:
        found = [
            (
                user,
                [each.handle for each in access.environments_of(connection, user)],
                keys.of(connection, user),
            )
            for user in records.everybody(connection)
        ]
    rows: list[dict[str, object]] = [
        {
            "name": user.name,
            "admin": user.admin,
            "environments": environments if as_json else " ".join(environments),
            "keys": len(keys),
        }
        for user, environments, keys in found
    ]
    call.print_rows(rows, as_json=as_json)
