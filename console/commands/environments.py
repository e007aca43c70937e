"""`environments`: the environments that a user has a role in."""

from __future__ import annotations

from console.grammar import Call, command, json_option
from store import access


@command("environments")
@json_option
def environments(call: Call, as_json: bool) -> None:
    """List the environments that you have a role in; an administrator sees all."""
    with call.room.store.read() as connection:
        found = access.environments_of(connection, call.user)
    rows: list[dict[str, object]] = [{"handle": each.handle, "role": str(each.role)} for each in found]
    call.print_rows(rows, as_json=as_json)
