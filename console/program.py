"""The `slipway` program: administration of a data folder here, and every user command there.

A user command goes to a server by SSH (`--remote`, SLIPWAY_REMOTE), or to the one that serves a data folder on this
machine (`--data`, SLIPWAY_DATA), as its administrator. It is parsed there, so that the grammar exists once.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from console import log
from console.settings import DATA, LIMITS, SETTINGS, Settings, data_folder, options
from hooks.engine_room import EngineRoom, EngineRoomUnreachableError
from store.data_folder import DataFolder
from store.errors import SlipwayError, UsageError
from store.secret import Secret


class _Program(click.Group):
    """Administration commands; any other word is a user command and is passed on as it is."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find an administration command, or pass the words on."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return args[0], _passed_on(args), []

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the administration commands, and the user commands as the grammar has them."""
        super().format_commands(ctx, formatter)
        from console.grammar import load  # only --help needs the grammar

        grammar = load()
        rows = [(name, command.get_short_help_str(90)) for name, command in sorted(grammar.commands.items())]
        with formatter.section("User commands (with --remote ssh://git@HOST:PORT, or --data DIR on the server)"):
            formatter.write_dl(rows)


@click.group(cls=_Program, context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(package_name="slipway", message="slipway %(version)s")
def program() -> None:
    """A self-hosted git push-to-deploy server."""


@program.command()
@options(DATA)
@click.option(
    "--admin-key", required=True, metavar="FILE.pub", type=click.File(), help="The first administrator's key."
)
@click.option(
    "--admin-name", default="admin", show_default=True, metavar="NAME", help="The first administrator's name."
)
def init(data: DataFolder, admin_key: Any, admin_name: str) -> None:
    """Prepare a data folder, once: records, keys, and a first administrator."""
    from console.preparation import prepare  # the records, which a front door's process has no use for

    click.echo(prepare(data, admin_key.read(), admin_name))


@program.command()
@options(*SETTINGS, *LIMITS)
def serve(**values: Any) -> None:
    """Serve in the foreground. SIGTERM lets running operations finish first; apps go on running."""
    from console.supervisor import Supervisor  # the other commands need none of what it imports

    settings = Settings.of(values)
    log.configure(settings.log, "supervisor")
    Supervisor(settings).run()


@program.command()
@options(*SETTINGS)
def down(**values: Any) -> None:
    """Remove every container, the network and the proxy of a data folder's server; its records stay.

    Run it when the server is stopped. The next `serve` starts every app again.
    """
    from console.teardown import tear_down  # the other commands need no engine

    settings = Settings(**values)
    log.configure(settings.log, "down")
    tear_down(settings)
    click.echo(f"Removed the containers and the proxy of {settings.data.root}; its records stay.")


@program.command()
@options(DATA)
def proxy(data: DataFolder) -> None:
    """Keep the proxy of a data folder running, where `serve` must not be the one to: in containers. SIGTERM ends it."""
    from releaser.haproxy_keeper import Keeper  # the other commands need no proxy

    log.configure("console", "proxy")
    data.create()
    keeper = Keeper(data.proxy)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.stop)
    keeper.run()


@program.command()
@options(DATA)
def ready(data: DataFolder) -> None:
    """Ask the server of a data folder whether it can do its work, as `/readyz` does; the exit status is 1 if not."""
    EngineRoom(data.socket).ready()
    click.echo("ready")


@program.command()
@options(DATA)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(data: DataFolder, file: Path) -> None:
    """Write records, repositories, logs and keys into FILE, as one consistent archive, also while serving.

    Keep it as safe as the server itself: it holds the key of the config.
    """
    from console.backup import back_up  # the other commands need no archives

    size = back_up(data, file.absolute())
    click.echo(f"Wrote {file}, {size:,} bytes. It holds the key of the config: keep it safe.")


@program.command()
@options(DATA)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore(data: DataFolder, file: Path) -> None:
    """Make a new data folder out of the backup FILE. The next `serve` deploys every app of it again."""
    from console.backup import restore as put_back  # the other commands need no archives

    handles = put_back(file, data)
    click.echo(f"Restored {len(handles)} apps into {data.root}; `slipway serve` brings them back.")


@program.command()
@options(*SETTINGS)
def doctor(**values: Any) -> None:
    """Look at everything that a server needs, and say what is wrong and what to do. Changes nothing.

    The exit status is 1 if anything is wrong.
    """
    from console.doctor import examine  # the other commands need no engine

    problems = 0
    for finding in examine(Settings(**values)):
        problems += finding.problem is not None
        click.echo(f"{'PROBLEM' if finding.problem else 'ok':8} {finding.subject}: {finding.problem or finding.detail}")
    sys.exit(1 if problems else 0)


@program.command("rotate-key")
@options(DATA)
def rotate_key(data: DataFolder) -> None:
    """Seal every secret of the records again under a new key, also while serving; the former key is then of no use.

    Without SLIPWAY_SECRET_KEY the new key is made here and put in the place of the former one. With it, the new one is
    read from standard input; change the variable before the next start.
    """
    from console.rotation import rotate  # the other commands need no records

    data.require()
    try:
        _on_this_machine(data, ["rotate-key"], None)
    except EngineRoomUnreachableError:
        click.echo(rotate(data, lambda: Secret(sys.stdin.read())))


def _passed_on(words: list[str]) -> click.Command:
    """Return a command that sends `words` to a server, less the options that are meant for this program."""
    words, remote = _take(words, "--remote")
    words, data = _take(words, "--data")
    if words[0] == "help" and not remote and not data:
        text = program.get_help(click.Context(program, info_name="slipway"))
        return click.Command("help", callback=lambda: click.echo(text))
    if not remote and not data:
        remote, data = os.environ.get("SLIPWAY_REMOTE"), os.environ.get("SLIPWAY_DATA")
    stdin: str | None = None
    if words[0] in ("users", "keys") and words[1:2] in (["add"], ["remove"], ["password"]):
        words = [f"{words[0]}:{words[1]}", *words[2:]]
    if words[0] in ("users:add", "keys:add"):
        words, key = _take(words, "--key")
        stdin = None if key is None else _read(Path(key))
    if words[0] == "users:password" and "--help" not in words and sys.stdin.isatty():
        stdin = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    if data:
        folder = data_folder(Path(data))
        return click.Command(words[0], callback=lambda: _on_this_machine(folder, words, stdin))
    if remote:
        return click.Command(words[0], callback=lambda: _by_ssh(remote, words, stdin))
    raise UsageError(
        f"{words[0][:40]!r} is not an administration command; for a user command say where, with "
        "--remote ssh://git@HOST:PORT (SLIPWAY_REMOTE), or --data DIR (SLIPWAY_DATA) on the server itself"
    )


def _take(words: list[str], option: str) -> tuple[list[str], str | None]:
    """Take `option VALUE` or `option=VALUE` out of words, wherever it stands before a `--`."""
    end = words.index("--") if "--" in words else len(words)
    for position, word in enumerate(words[:end]):
        if word == option and position + 1 < end:
            return [*words[:position], *words[position + 2 :]], words[position + 1]
        if word.startswith(f"{option}="):
            return [*words[:position], *words[position + 1 :]], word.removeprefix(f"{option}=")
    return words, None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', 'it is not text')}") from error


def _by_ssh(remote: str, words: list[str], stdin: str | None) -> None:
    url = urlsplit(remote if "://" in remote else f"ssh://{remote}")
    if url.scheme != "ssh" or not url.hostname or url.hostname.startswith("-"):
        raise UsageError(f"{remote!r} is not a server's address; write ssh://git@HOST:PORT")
    port = ["-p", str(url.port)] if url.port else []
    # Only a program in a container has a use for a terminal.
    terminal = "-t" if words[0] == "ssh" and sys.stdin.isatty() and sys.stdout.isatty() else "-T"
    command = ["ssh", *port, terminal, f"{url.username or 'git'}@{url.hostname}", "--", shlex.join(words)]
    sys.exit(subprocess.run(command, input=stdin, text=True, check=False).returncode)


def _on_this_machine(data: DataFolder, words: list[str], stdin: str | None) -> None:
    from console.here import run_here  # a server's own process needs no terminal

    data.require()
    sys.exit(run_here(data.socket, words, stdin))


def main() -> None:
    """Run the program; every error that a person can mend is one sentence and a non-zero exit status."""
    try:
        program(prog_name="slipway")
    except SlipwayError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
