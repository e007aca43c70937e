"""`gc`: remove images that no release needs any more."""

from __future__ import annotations

import click

from console.grammar import Call, command, json_option


@command("gc")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--keep",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Releases of each app whose images stay, so that they can be rolled back to; by default as the server is set.",
)
@json_option
def gc(call: Call, dry_run: bool, keep: int | None, as_json: bool) -> None:
    """Remove images that no release needs any more (for administrators).

    It happens by itself after each deploy, once a day, and when the engine's disk gets full. Only images that this
    server built are touched, unless the engine is dedicated to it (SLIPWAY_ENGINE_USE). Apps that an operation runs for
    are passed over.
    """
    images = call.room.operations.collector.collect(keep, dry_run=dry_run)
    rows = [{"image": image.id, "names": " ".join(image.names), "bytes": image.size} for image in images]
    call.print_rows(rows, as_json=as_json)
    if not as_json:
        verb = "would be removed" if dry_run else "removed"
        call.print(f"{len(images)} image{'' if len(images) == 1 else 's'} {verb}.")
