"""`access:grant`: somebody gets a role, on one app or in an environment."""

from __future__ import annotations

import click

from console.grammar import Call, command, on_app_or_environment
from store import access, users
from store.errors import UsageError
from store.roles import Role


@command("access:grant")
@click.argument("name", metavar="USER")
@on_app_or_environment
@click.option("--role", required=True, metavar="read|deploy|admin", help="What they may do there.")
def access_grant(call: Call, name: str, handle: str | None, environment: str | None, role: str) -> None:
    """Give USER a role on one app, or on every app of an environment, in place of the one that was granted there.

    read: look at it, its logs and its code. deploy: change what runs, and its config. admin: everything, access
    included.
    """
    wanted = Role.named(role)
    with call.room.store.write() as connection:
        if handle is not None:
            app = call.app(connection, handle, environment)
            access.grant_app(connection, users.by_name(connection, name), app.id, wanted)
        elif environment is not None:
            place = access.environment(connection, call.user, environment, call.need)
            access.grant_environment(connection, users.by_name(connection, name), place.id, wanted)
        else:
            raise UsageError("say where, with --app APP or --environment ENVIRONMENT")
    call.print(f"{name} has the role {wanted} on {f'the app {handle}' if handle else f'all apps of {environment}'}.")
