"""The grammar of user commands, defined once: whoever asks, by SSH or with the local program, is parsed here.

A command is a module in `console.commands` with one function under `@command`. The function gets a `Call`, prints to
it, and returns the operation that it opened, if any; whoever runs it shows that operation's log until it ends. It may
return a `Live` answer instead, which is made while it is read.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from console import access, commands
from console.deeds import deed_of
from console.live import Attached, Live
from console.portal import Portal
from hooks.addresses import Addresses
from hooks.certificates import Certificates
from hooks.operations import Operations
from hooks.pipeline import Pipeline
from releaser.releaser import Releaser
from releaser.terminal import Terminal
from store import apps, audit, operations
from store.apps import App
from store.audit import Origin
from store.database import Store
from store.errors import SlipwayError
from store.operations import LOCAL_USER, NoSuchOperationError, Operation
from store.roles import Role
from store.secret import SHOWN
from store.users import User

LOCAL = User(id=0, name=LOCAL_USER, admin=True, environment_id=0)
"""Somebody at the machine itself, who may open the data folder and therefore may do anything."""


@dataclass(frozen=True)
class Room:
    """What commands work with."""

    store: Store
    operations: Operations
    pipeline: Pipeline
    releaser: Releaser
    addresses: Addresses
    ports: range | None
    """Candidates for apps' own ports; None where apps have host names."""
    tcp_ports: range
    """What endpoints may open."""
    certificates: Certificates
    usable: Callable[[int], bool]
    """Whether the proxy could open a port."""
    portal: Portal = field(default_factory=Portal)


class InputNeededError(Exception):
    """The command reads standard input, which was not sent along."""


@dataclass
class Call:
    """One command by one user."""

    room: Room
    user: User
    stdin: str | None = None
    origin: Origin = audit.LOCAL
    """Where the user asks from."""
    terminal: Terminal | None = None
    """The user's terminal, for a command that runs a program in a container."""
    need: Role = Role.ADMIN
    """The least role that the command takes on what it is about."""
    printed: list[str] = field(default_factory=list)

    @property
    def user_id(self) -> int | None:
        """The user's record; None for the administrator at the machine."""
        return self.user.id or None

    def read_input(self) -> str:
        """Return standard input, all of it."""
        if self.stdin is None:
            raise InputNeededError
        return self.stdin

    def print(self, text: str) -> None:
        """Print one line."""
        self.printed.append(text + "\n")

    def print_json(self, value: object) -> None:
        """Print a value for scripts."""
        self.print(json.dumps(value, indent=2, default=_moment))

    def print_rows(self, rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
        """Print records: for scripts all of their fields, for people a table."""
        if as_json:
            self.print_json(rows)
            return
        if not rows:
            return
        cells = [[name.upper() for name in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            self.print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def app(self, connection: Connection, handle: str, environment: str | None) -> App:
        """Return an app on which the user has the role that this command takes (`console.access`).

        Raises NoSuchAppError, RoleTooLowError.
        """
        return apps.reachable(connection, self.user, handle, environment, need=self.need)

    def operation(self, number: int) -> Operation:
        """Return an operation of an app on which the user has the role that this command takes.

        The app may be deprovisioned. Raises NoSuchOperationError for any other, RoleTooLowError.
        """
        with self.room.store.read() as connection:
            try:
                operation = operations.by_id(connection, number)
            except NoSuchOperationError:
                # Asked all the same, so that the time tells nothing.
                apps.reachable_by_id(connection, self.user, 0, need=self.need, deprovisioned=True)
                raise
            app_id = operation.app_id
            if apps.reachable_by_id(connection, self.user, app_id, need=self.need, deprovisioned=True) is None:
                raise NoSuchOperationError(number)
        return operation


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    raise TypeError(f"{type(value)} has no JSON form here")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else ""
    return _moment(value) if isinstance(value, datetime) else str(value)


class _HelpShown(Exception):  # noqa: N818  (a way out, not an error)
    def __init__(self, text: str) -> None:
        self.text = text


def _show_help(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        raise _HelpShown(context.get_help())


class _WithHelp(click.Command):
    """A command whose --help goes to whoever asked, instead of to the server's standard output."""

    _help_option: click.Option | None = None

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """Return the option, made once: click asks for it twice for each command that is given."""
        if self._help_option is None:
            self._help_option = click.Option(
                ["--help"], is_flag=True, is_eager=True, expose_value=False, callback=_show_help, help="Show this text."
            )
        return self._help_option


class _Grammar(_WithHelp, click.Group):
    """All user commands. They are imported when the first one is asked for."""

    command_class = _WithHelp

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a line; what is not one is refused without repeating the words after it."""
        if args[0] not in self.commands:
            raise click.UsageError(f"there is no command {args[0][:40]!r}; `help` lists them")
        return super().resolve_command(ctx, args)


grammar = _Grammar(
    "slipway", help="Commands of slipway. Each explains itself with --help.", subcommand_metavar="COMMAND …"
)

_Function = TypeVar("_Function", bound=Callable[..., Operation | Live | Attached | None])


def command(name: str, *, options_first: bool = False) -> Callable[[_Function], click.Command]:
    """Return a decorator that makes a function the command `name`; its docstring is the command's help.

    Who may use it is told in `console.access`.

    With `options_first`, what follows the first word that is no option is left alone: it is another program's words.
    """
    settings = {"allow_interspersed_args": not options_first}

    def decorate(function: _Function) -> click.Command:
        @wraps(function)
        def allowed(call: Call, **words: Any) -> Operation | Live | Attached | None:
            with audit.accounted(call.room.store.write, deed_of(call.user, call.origin, name, words)):
                access.check(call.user, name)
                call.need = access.needed(name)
                return function(call, **words)

        return grammar.command(name, context_settings=settings)(click.pass_obj(allowed))

    return decorate


def of_app(function: _Function) -> _Function:
    """Give a command the options that name an app: `handle` and `environment`."""
    function = click.option(
        "--environment", "--env", metavar="ENVIRONMENT", help="The environment that the app is in."
    )(function)
    return click.option("--app", "handle", required=True, metavar="APP", help="The app.")(function)


def on_app_or_environment(function: _Function) -> _Function:
    """Give a command the options that name one app, or else a whole environment: `handle` and `environment`."""
    function = click.option(
        "--environment", "--env", metavar="ENVIRONMENT", help="Every app of this environment, now and later."
    )(function)
    return click.option("--app", "handle", metavar="APP", help="This app only.")(function)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, or which operation's end is to be waited for."""

    out: str = ""
    err: str = ""
    exit: int = 0
    error: str | None = None
    operation: Operation | None = None
    live: Live | Attached | None = None
    needs_input: bool = False


def load() -> _Grammar:
    """Import every command and return the grammar."""
    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{module.name}")
    return grammar


def run(call: Call, line: str | Sequence[str]) -> Outcome:
    """Parse and run one command: a line, in a POSIX shell's quoting, or its words."""
    try:
        words = shlex.split(line) if isinstance(line, str) else list(line)
    except ValueError:
        return _failed(2, "the command's quotes are not closed")
    if not words or words == ["help"]:
        words = ["--help"]
    elif words[0] == "help":
        words = [words[1], "--help"]
    try:
        answer = grammar.main(words, prog_name="slipway", standalone_mode=False, obj=call)
    except _HelpShown as help_:
        return Outcome(out=help_.text + "\n")
    except InputNeededError:
        return Outcome(needs_input=True)
    except click.ClickException as error:
        return _failed(2, _without_values(error.format_message(), words))
    except SlipwayError as error:
        return _failed(error.exit_status, str(error), "".join(call.printed))
    return Outcome(
        out="".join(call.printed),
        operation=answer if isinstance(answer, Operation) else None,
        live=answer if isinstance(answer, Live | Attached) else None,
    )


def _failed(status: int, message: str, out: str = "") -> Outcome:
    return Outcome(out=out, err=f"Error: {message}\n", exit=status, error=message)


def _without_values(message: str, words: Iterable[str]) -> str:
    """Take what may be config values out of a message about the words of a command."""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and value:
            message = message.replace(word, f"{name}={SHOWN}")
    return message
