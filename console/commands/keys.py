"""`keys`: the keys that name a user."""

from __future__ import annotations

from console.grammar import Call, command, json_option
from store import keys as records


@command("keys")
@json_option
def keys(call: Call, as_json: bool) -> None:
    """List your SSH keys; an administrator sees everybody's."""
    with call.room.store.read() as connection:
        found = records.of(connection, None if call.user.admin else call.user)
    rows: list[dict[str, object]] = [
        {
            "user": key.user,
            "fingerprint": key.fingerprint,
            "comment": key.comment,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "last_used_at": key.last_used_at,
        }
        for key in found
    ]
    call.print_rows(rows, as_json=as_json)
