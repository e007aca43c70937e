"""`access:revoke`: a role is taken away again."""

from __future__ import annotations

import click

from console.grammar import Call, command, on_app_or_environment
from store import access, users
from store.errors import UsageError


@command("access:revoke")
@click.argument("name", metavar="USER")
@on_app_or_environment
def access_revoke(call: Call, name: str, handle: str | None, environment: str | None) -> None:
    """Take away the role that USER was granted on one app, or in an environment. What they have started goes on."""
    with call.room.store.write() as connection:
        if handle is not None:
            app = call.app(connection, handle, environment)
            access.revoke_app(connection, users.by_name(connection, name), app.id)
        elif environment is not None:
            place = access.environment(connection, call.user, environment, call.need)
            access.revoke_environment(connection, users.by_name(connection, name), place.id)
        else:
            raise UsageError("say where, with --app APP or --environment ENVIRONMENT")
    call.print(f"{name} has no role of their own {f'on the app {handle}' if handle else f'in {environment}'} any more.")
