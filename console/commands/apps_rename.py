"""`apps:rename`: another name for an app."""

from __future__ import annotations

import click

from console.commands.apps_show import describe
from console.grammar import Call, command
from store import apps
from store.apps import App
from store.errors import SlipwayError


def rename(call: Call, app: App, handle: str) -> App:
    """Give an app another name, and a route by that name where apps have host names; no request fails meanwhile.

    Raises UsageError for what cannot be a name and AppError for one that is taken.
    """
    with call.room.store.write() as connection:
        renamed = apps.rename(connection, app, handle)
    try:
        call.room.operations.upkeep.mend(renamed)
    except SlipwayError as error:
        # The name is recorded; the route follows as soon as what runs is compared with the records again.
        call.print(f"It answers at its new address once this is mended: {error}")
    return renamed


@command("apps:rename")
@click.argument("handle", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--environment", "--env", metavar="ENVIRONMENT", help="The environment that the app is in.")
def apps_rename(call: Call, handle: str, new: str, environment: str | None) -> None:
    """Call the app OLD from now on NEW. Nothing is restarted, and no request fails.

    Where apps have host names, it answers at the new one, and the old one is free for another app; `endpoints:create`
    keeps a name for good. While an operation of the app is under way, that takes effect a few seconds after it. Git
    remotes have to be pointed at the new address.
    """
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
    renamed = rename(call, app, new)
    with call.room.store.read() as connection:
        fields = describe(call, connection, renamed)
    call.print(f"{handle} is called {renamed.handle} now.")
    call.print(f"  git remote set-url aptible {fields['git_repo']}")
    call.print(f"It answers at {fields['url']}")
