"""`gc`: remove images that no release needs any more."""

from __future__ import annotations

import click

from console.grammar import Call, command, json_option
from hooks.collection import KEPT


@command("gc")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--keep",
    type=click.IntRange(1, 1000),
    default=KEPT,
    show_default=True,
    metavar="N",
    help="Releases of each app whose images stay, so that they can be rolled back to.",
)
@json_option
def gc(call: Call, dry_run: bool, keep: int, as_json: bool) -> None:
    """Remove images that no release needs any more (for administrators).

    Only images that this server built are touched. Apps that an operation runs for are passed over.
    """
    images = call.room.operations.collect(keep, dry_run=dry_run)
    rows = [{"image": image.id, "names": " ".join(image.names), "bytes": image.size} for image in images]
    call.print_rows(rows, as_json=as_json)
    if not as_json:
        verb = "would be removed" if dry_run else "removed"
        call.print(f"{len(images)} image{'' if len(images) == 1 else 's'} {verb}.")
