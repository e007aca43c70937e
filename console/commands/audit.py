"""`audit`: who did what, from where, and what was refused."""

from __future__ import annotations

import click

from console import moments
from console.grammar import Call, command, json_option
from store import audit as records
from store.errors import RefusedError
from store.tables import now


@command("audit")
@click.option("--app", "handle", metavar="APP", help="What was done with this app.")
@click.option("--environment", "--env", metavar="ENVIRONMENT", help="The environment that the app is in.")
@click.option("--user", "name", metavar="USER", help="What this user did.")
@click.option("--since", metavar="TIME", help="What was done since then: 7d, 12h, or a date such as 2027-01-31 (UTC).")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, help="The newest so many, at most."
)
@json_option
def audit(
    call: Call,
    handle: str | None,
    environment: str | None,
    name: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what people did and what they were refused, the newest last.

    With --app it takes the role admin on the app, otherwise to be an administrator of the server. Config values and
    other words that may be secrets are never part of it. An operation's result is `ok` when it was accepted.
    """
    if handle is None and not call.user.admin:
        raise RefusedError("say which app, with --app APP; all of the audit log is for administrators of the server")
    with call.room.store.read() as connection:
        app = None if handle is None else call.app(connection, handle, environment)
        found = records.entries(
            connection,
            app_id=None if app is None else app.id,
            user=name,
            since=None if since is None else moments.before(since, now()),
            limit=limit,
        )
    rows: list[dict[str, object]] = [
        {
            "at": entry.at,
            "user": entry.user,
            "action": entry.action,
            "result": entry.result,
            "app": entry.app,
            "operation": entry.operation,
            "detail": entry.detail,
            "door": entry.door,
            "address": entry.address,
            "key": entry.key,
        }
        for entry in found
    ]
    call.print_rows(rows, as_json=as_json)
