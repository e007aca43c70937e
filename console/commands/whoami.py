"""`whoami`: who the server thinks is asking."""

from __future__ import annotations

from console.grammar import Call, command, json_option
from store import access


@command("whoami")
@json_option
def whoami(call: Call, as_json: bool) -> None:
    """Tell who you are here, and which environments you may use."""
    with call.room.store.read() as connection:
        environments = [each.handle for each in access.environments_of(connection, call.user)]
    if as_json:
        call.print_json({"name": call.user.name, "admin": call.user.admin, "environments": environments})
    else:
        call.print(f"{call.user.name}{' (administrator)' if call.user.admin else ''}: {', '.join(environments)}")
