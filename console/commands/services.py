"""`services`: what an app runs, and how much of it."""

from __future__ import annotations

from console.grammar import Call, command, json_option, of_app
from hooks.artifacts import NothingToReleaseError
from releaser import services as processes
from store import releases
from store import services as records


@command("services")
@of_app
@json_option
def services(call: Call, handle: str, environment: str | None, as_json: bool) -> None:
    """List the services of an app's current release: their commands, their scale, and how many containers run."""
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        current = releases.current(connection, app)
        settled = records.of_app(connection, app)
    if current is None:
        raise NothingToReleaseError(f"{handle} has not been deployed yet; its services come with its first release")
    containers = call.room.releaser.running(app.id)
    # Those of an earlier release may still be finishing their last requests.
    running = [each.service for each in containers if each.running and each.operation == app.serving_operation_id]
    rows: list[dict[str, object]] = []
    for name, line in processes.names(current.artifact.procfile).items():
        settings = settled.get(name, records.NEW_SERVICE)
        rows.append(
            {
                "service": name,
                "container_count": settings.container_count,
                "running": running.count(name),
                "container_size": settings.container_memory_mb,
                "cpu_limit": settings.cpu_limit or None,
                "force_zero_downtime": settings.force_zero_downtime,
                "simple_health_check": settings.simple_health_check,
                "command": line,
            }
        )
    call.print_rows(rows, as_json=as_json)
