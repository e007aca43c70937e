"""`apps:show`: one app, all that is known of it."""

from __future__ import annotations

from sqlalchemy import Connection

from console.grammar import Call, command, json_option, of_app
from store import releases
from store.apps import App


def describe(call: Call, connection: Connection, app: App) -> dict[str, object]:
    """Return the fields that scripts may rely on."""
    release = releases.current(connection, app)
    artifact = release and release.artifact
    return {
        "handle": app.handle,
        "environment": app.environment,
        "status": "provisioned" if release else "pending",
        "url": call.room.addresses.url(app),
        "git_repo": call.room.addresses.git_repo(app),
        "commit": artifact and artifact.commit,
        "image": artifact and (artifact.image_digest or artifact.image),
        "release": release and release.number,
    }


@command("apps:show")
@of_app
@json_option
def apps_show(call: Call, handle: str, environment: str | None, as_json: bool) -> None:
    """Show one app: where it answers, where to push, what runs."""
    with call.room.store.read() as connection:
        fields = describe(call, connection, call.app(connection, handle, environment))
    if as_json:
        call.print_json(fields)
        return
    for name, value in fields.items():
        call.print(f"{name + ':':13}{'-' if value is None else value}")
