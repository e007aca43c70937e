"""A user command over SSH: its line goes to the engine room, the frames of the answer to the client's streams."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import cast

from structlog.contextvars import bind_contextvars

from gitserver.keyboard import Keyboard
from gitserver.streams import ClientStreams
from hooks.engine_room import EngineRoom, Frame, User
from releaser.terminal import Terminal
from store.errors import SlipwayError, UsageError

MAX_INPUT_BYTES = 16 << 20
"""Longest text that a command takes from standard input: it is held in memory here and in the engine room."""


def run(
    streams: ClientStreams,
    engine_room: EngineRoom,
    user: User,
    line: str,
    *,
    keyboard: Keyboard,
    terminal: Terminal | None,
) -> int:
    """Run `line` for `user` and return its exit status, 0 to 255.

    A `terminal` at the other end is in raw mode, and wants a carriage return in each line end. Raises
    SlipwayError for what the user should read, ClientGoneError or CallerGoneError when they have left; the operation
    goes on then.
    """
    frames = engine_room.command(user, line, terminal=terminal, typed=keyboard.command)
    last = _relay(streams, frames, keyboard, terminal)
    if last.input:
        if terminal:
            raise UsageError("this command reads standard input: pipe the text into ssh, without -t")
        last = _relay(streams, engine_room.command(user, line, _read_text(streams)), keyboard, terminal)
    if last.exit is None:
        raise SlipwayError("the server asked for standard input twice; report this to whoever runs it")
    return last.exit


def enter_portal(
    streams: ClientStreams, engine_room: EngineRoom, user: User, *, keyboard: Keyboard, terminal: Terminal | None
) -> int:
    """Show what the user's connection leads to, as `run` does, and return its exit status."""
    frames = engine_room.portal(user, terminal=terminal, typed=keyboard.command)
    last = _relay(streams, frames, keyboard, terminal)
    if last.exit is None:
        raise SlipwayError("this command reads standard input; give it over SSH, by its name")
    return last.exit


def _relay(streams: ClientStreams, frames: Iterator[Frame], keyboard: Keyboard, terminal: Terminal | None) -> Frame:
    """Pass on what comes, as it comes, and return the frame that ends the answer: an exit, or a question for input."""
    if terminal:
        keyboard.listen()
    end = "\r\n" if terminal else "\n"

    def to(write: Callable[[bytes], None], text: str) -> None:
        write(text.replace("\n", end).encode())

    with closing(cast(Generator[Frame], frames)):
        for frame in frames:
            if frame.operation:
                # On this thread, which is the session's, whatever is logged from here on tells of it.
                bind_contextvars(operation=frame.operation)
            if frame.out:
                to(streams.write, frame.out)
            if frame.err:
                to(streams.write_error, frame.err)
            if frame.raw:
                streams.write(frame.raw)
            if frame.raw_err:
                streams.write_error(frame.raw_err)
            if frame.attach:
                keyboard.attach()
            if frame.error:
                to(streams.write_error, f"{frame.error}\n")
            if frame.input or frame.exit is not None:
                return frame
    raise SlipwayError("the server ended its answer in the middle; see `operations` for what became of the command")


def _read_text(streams: ClientStreams) -> str:
    text = bytearray()
    while data := streams.read(1 << 16):
        text += data
        if len(text) > MAX_INPUT_BYTES:
            raise UsageError(f"standard input is longer than {MAX_INPUT_BYTES >> 20} MiB; nothing was changed")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 at byte {error.start}; nothing was changed") from None
