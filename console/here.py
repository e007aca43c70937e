"""A user command for the server on this machine, at whose keyboard somebody may use a program in a container."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click

from hooks.command_input import CommandInput
from hooks.engine_room import EngineRoom
from releaser.terminal import Terminal
from store.errors import SlipwayError

PIECE_BYTES = 1 << 14
"""What is sent on at once."""


def run_here(socket: Path, words: Sequence[str], stdin: str | None) -> int:
    """Run a command as the server's administrator and return its exit status.

    `stdin` is standard input, None for this process's own. Raises SlipwayError.
    """
    room = EngineRoom(socket)
    terminal = _terminal() if stdin is None else None
    status, asked = _show(room, words, stdin, terminal)
    if asked:
        status, _ = _show(room, words, sys.stdin.read(), None)
    return status


def _show(room: EngineRoom, words: Sequence[str], stdin: str | None, terminal: Terminal | None) -> tuple[int, bool]:
    """Show an answer, and return its exit status and whether it asks for standard input as a whole."""
    typed = CommandInput()
    asked = False
    with ExitStack() as stack:
        for frame in room.command(None, words, stdin, terminal=terminal, typed=typed):
            asked = asked or frame.input
            if frame.out:
                click.echo(frame.out, nl=False)
            if frame.err:
                click.echo(frame.err, nl=False, err=True)
            if frame.raw:
                _write(sys.stdout.fileno(), frame.raw)
            if frame.raw_err:
                _write(sys.stderr.fileno(), frame.raw_err)
            if frame.attach:
                stack.enter_context(_keyboard(typed, raw=terminal is not None))
            if frame.exit is not None:
                return frame.exit, asked
    raise SlipwayError("the server ended its answer in the middle; see `operations` for what became of the command")


def _terminal() -> Terminal | None:
    """Return this process's terminal, None unless somebody sits at it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return Terminal.of(os.environ.get("TERM", ""), *os.get_terminal_size(sys.stdin.fileno()))


@contextmanager
def _keyboard(typed: CommandInput, *, raw: bool) -> Iterator[None]:
    """Send standard input while the block runs; a terminal's as it is, keys that make signals included."""
    threading.Thread(target=_type, args=(typed,), daemon=True).start()
    if not raw:
        yield
        return
    keyboard = sys.stdin.fileno()

    def resized(_number: int, _frame: FrameType | None) -> None:
        # On a thread of its own: a signal handler must not wait for a lock that it may have interrupted.
        threading.Thread(target=typed.resize, args=os.get_terminal_size(keyboard), daemon=True).start()

    mode = termios.tcgetattr(keyboard)
    before = signal.signal(signal.SIGWINCH, resized)
    tty.setraw(keyboard, termios.TCSADRAIN)  # what was typed before is not lost
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, mode)
        signal.signal(signal.SIGWINCH, before)


def _type(typed: CommandInput) -> None:
    while data := os.read(sys.stdin.fileno(), PIECE_BYTES):
        typed.send(data)
    typed.end()


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
