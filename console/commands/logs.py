"""`logs`: what an app's services write."""

from __future__ import annotations

import threading

import click

from console.grammar import Call, command, of_app
from console.live import Live, Write
from hooks.redaction import patterns
from hooks.service_logs import ServiceLog
from releaser.container import Container
from store import configs

MOST_LINES = 10_000


@command("logs")
@of_app
@click.option("--service", metavar="SERVICE", help="Of this service only.")
@click.option(
    "--lines",
    type=click.IntRange(0, MOST_LINES),
    default=100,
    show_default=True,
    metavar="N",
    help="Begin with the last N lines of each container.",
)
@click.option("--no-follow", is_flag=True, help="End there, instead of showing what comes.")
def logs(call: Call, handle: str, environment: str | None, service: str | None, lines: int, no_follow: bool) -> Live:
    """Show what the containers of an app write, all services together, until you leave.

    Those of a next release are shown too, once they are there. Values of the config are taken out.
    """
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)

    def sink(container: Container, write: Write) -> ServiceLog:
        # Asked for each container anew: the next release may come with new values.
        with call.room.store.read() as connection:
            values = configs.current(connection, call.room.store.seal, app).values
        return ServiceLog(container.title, patterns([values]), write)

    def run(out: Write, _err: Write, gone: threading.Event) -> int:
        call.room.releaser.logs(
            app.id,
            lines=lines,
            follow=not no_follow,
            wanted=lambda container: service in (None, container.service),
            sink=lambda container: sink(container, out),
            gone=gone,
        )
        return 0

    return Live(run)
