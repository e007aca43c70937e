"""`apps:create`: a new app, its repository and its address."""

from __future__ import annotations

from contextlib import suppress

import click

from console.commands.apps_show import describe
from console.grammar import Call, command, json_option
from hooks.repository import BareRepository
from store import apps
from store.errors import SlipwayError


@command("apps:create")
@click.argument("handle")
@click.option(
    "--environment", "--env", metavar="ENVIRONMENT", help="The environment that it goes to; yours by default."
)
@json_option
def apps_create(call: Call, handle: str, environment: str | None, as_json: bool) -> None:
    """Create an app called HANDLE and tell where to push."""
    room = call.room
    with room.store.write() as connection:
        app = apps.create(connection, call.user, handle, environment=environment, ports=room.ports, usable=room.usable)
        # Inside the transaction: an app without a repository would be half an app.
        BareRepository.create(room.pipeline.repository(app.id).path)
        fields = describe(call, connection, app)
    with suppress(SlipwayError):  # the app is there; the server tries again, and its log tells why
        room.operations.upkeep.mend(app)  # so that whoever opens its address before the first deploy is told so
    if as_json:
        call.print_json(fields)
        return
    call.print(f"Created {app.handle} in {app.environment}.")
    call.print(f"  git remote add aptible {fields['git_repo']}")
    call.print("  git push aptible master")
    call.print(f"It will answer at {fields['url']}")
