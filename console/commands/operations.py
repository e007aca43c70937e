"""`operations`: what was asked for, and how it ended."""

from __future__ import annotations

import click

from console.grammar import Call, command, json_option, of_app
from store import operations as records

ERROR_WIDTH = 80
"""Characters of an error that a table shows."""


@command("operations")
@of_app
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, at most.")
@json_option
def operations(call: Call, handle: str, environment: str | None, limit: int, as_json: bool) -> None:
    """List an app's operations, newest first."""
    with call.room.store.read() as connection:
        found = records.of_app(connection, call.app(connection, handle, environment), limit)
    rows: list[dict[str, object]] = [
        {
            "id": operation.id,
            "type": operation.type,
            "status": operation.status,
            "app": operation.app,
            "user": operation.user,
            "created_at": operation.created_at,
            "finished_at": operation.finished_at,
            "error": operation.error if as_json else _short(operation.error),
        }
        for operation in found
    ]
    call.print_rows(rows, as_json=as_json)


def _short(error: str | None) -> str | None:
    """Return an error as far as a table has room for it; its log has the whole."""
    return error if error is None or len(error) <= ERROR_WIDTH else error[: ERROR_WIDTH - 1] + "…"
