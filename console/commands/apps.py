"""`apps`: the apps that a user may reach."""

from __future__ import annotations

from console.commands.apps_show import describe
from console.grammar import Call, command, json_option
from store import apps as records


@command("apps")
@json_option
def apps(call: Call, as_json: bool) -> None:
    """List your apps."""
    with call.room.store.read() as connection:
        rows = [describe(call, connection, app) for app in records.of_user(connection, call.user)]
    if not as_json:
        rows = [{name: row[name] for name in ("handle", "environment", "status", "release", "url")} for row in rows]
    call.print_rows(rows, as_json=as_json)
