"""`access`: who may do how much with what."""

from __future__ import annotations

from console.grammar import Call, command, json_option
from store import access as records
from store import apps
from store.roles import Role


@command("access")
@json_option
def access(call: Call, as_json: bool) -> None:
    """List the roles that were granted: yours, and everybody's wherever you have the role admin.

    A grant without an app is for every app of its environment. Administrators of the server need none.
    """
    with call.room.store.read() as connection:
        mine = {each.handle for each in records.environments_of(connection, call.user) if each.role >= Role.ADMIN}
        own = {app.handle for app in apps.of_user(connection, call.user, least=Role.ADMIN)}
        found = [
            grant
            for grant in records.grants(connection)
            if grant.user == call.user.name or grant.environment in mine or grant.app in own
        ]
    rows: list[dict[str, object]] = [
        {"user": grant.user, "role": str(grant.role), "environment": grant.environment, "app": grant.app}
        for grant in found
    ]
    call.print_rows(rows, as_json=as_json)
