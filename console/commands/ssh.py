"""`ssh`: a command in a container of the current release, which is thrown away."""

from __future__ import annotations

import threading

import click
import structlog

from console.grammar import Call, command, of_app
from console.live import Live, Write
from hooks.artifacts import NothingToReleaseError
from store.errors import UsageError

log = structlog.get_logger()


@command("ssh", options_first=True)
@of_app
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND …")
def ssh(call: Call, handle: str, environment: str | None, words: tuple[str, ...]) -> Live:
    """Run COMMAND in a new container with image and config of the current release, and remove the container.

    A COMMAND of one word is a line for the image's shell; several words are a program and its arguments. It ends with
    the command's exit status, and the command ends when you leave. It reads no standard input yet.
    """
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
        release = call.room.pipeline.current_plan(connection, app)
    if not words:
        raise UsageError("name the command to run; an interactive shell is not there yet")
    if release is None:
        raise NothingToReleaseError(f"{handle} has not been deployed yet, so there is no image to run a command in")

    def run(out: Write, err: Write, gone: threading.Event) -> int:
        log.info("command in a container", app=handle, user=call.user.name)  # its words may hold secrets
        return call.room.releaser.run_command(release, words, out=out, err=err, gone=gone)

    return Live(run)
