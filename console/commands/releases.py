"""`releases`: what ran, and runs."""

from __future__ import annotations

from console.grammar import Call, command, json_option, of_app
from store import releases as records


@command("releases")
@of_app
@json_option
def releases(call: Call, handle: str, environment: str | None, as_json: bool) -> None:
    """List an app's releases, the newest (which is the current one) first."""
    with call.room.store.read() as connection:
        found = records.of_app(connection, call.app(connection, handle, environment))
    rows: list[dict[str, object]] = [
        {
            "number": release.number,
            "commit": release.artifact.commit,
            "image": release.artifact.image_digest or release.artifact.image,
            "config_version": release.config_version,
            "user": release.user,
            "created_at": release.created_at,
            "seconds": round(release.seconds, 1),
            "current": release is found[0],
        }
        for release in found
    ]
    call.print_rows(rows, as_json=as_json)
