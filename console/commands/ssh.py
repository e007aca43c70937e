"""`ssh`: a command, or a shell, in a container of the current release, which is thrown away."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import click
import structlog

from console.grammar import Call, command, of_app
from console.live import Attached
from hooks.artifacts import NothingToReleaseError
from releaser.attached import Typed, WriteBytes
from store.apps import App

log = structlog.get_logger()


def attached(call: Call, app: App, words: Sequence[str]) -> Attached:
    """Return what runs a command, or a shell for no words, in a new container of an app's current release.

    Raises NothingToReleaseError before the first release.
    """
    with call.room.store.read() as connection:
        release = call.room.pipeline.current_plan(connection, app)
    if release is None:
        raise NothingToReleaseError(f"{app.handle} has not been deployed yet, so there is no image to run a command in")

    def run(typed: Typed, out: WriteBytes, err: WriteBytes, gone: threading.Event) -> int:
        log.info("command in a container", app=app.handle, user=call.user.name)  # its words may hold secrets
        return call.room.releaser.run_command(release, words, call.terminal, typed=typed, out=out, err=err, gone=gone)

    return Attached(run)


@command("ssh", options_first=True)
@of_app
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND …]")
def ssh(call: Call, handle: str, environment: str | None, words: tuple[str, ...]) -> Attached:
    """Run COMMAND in a new container with image and config of the current release, and remove the container.

    Without a COMMAND it is a shell, without the image's ENTRYPOINT. A COMMAND of one word is a line for the image's
    shell; several words are a program and its arguments. It reads your standard input, and has a terminal if you ask
    for one (`ssh -t`). It ends with the command's exit status, and the command ends when you leave.
    """
    with call.room.store.read() as connection:
        app = call.app(connection, handle, environment)
    return attached(call, app, words)
