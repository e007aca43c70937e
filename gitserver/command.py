"""A user command over SSH: its line goes to the engine room, the frames of the answer to the client's streams."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import cast

from structlog.contextvars import bind_contextvars

from gitserver.streams import ClientStreams
from hooks.engine_room import EngineRoom, Frame, User
from store.errors import SlipwayError, UsageError

MAX_INPUT_BYTES = 16 << 20
"""Longest text that a command takes from standard input: it is held in memory here and in the engine room."""


def run(streams: ClientStreams, engine_room: EngineRoom, user: User, line: str, *, terminal: bool) -> int:
    """Run `line` for `user` and return its exit status, 0 to 255.

    With `terminal`, a terminal in raw mode is at the other end, which wants a carriage return in each line end. Raises
    SlipwayError for what the user should read, ClientGoneError or CallerGoneError when they have left; the operation
    goes on then.
    """
    end = "\r\n" if terminal else "\n"

    def to(write: Callable[[bytes], None], text: str) -> None:
        write(text.replace("\n", end).encode())

    stdin: str | None = None
    while True:
        last = _relay(
            engine_room,
            user,
            line,
            stdin,
            lambda text: to(streams.write, text),
            lambda text: to(streams.write_error, text),
        )
        if not last.input:
            if last.error:
                to(streams.write_error, f"{last.error}\n")
            return cast(int, last.exit)
        if stdin is not None:
            raise SlipwayError("the server asked for standard input twice; report this to whoever runs it")
        if terminal:
            raise UsageError("this command reads standard input: pipe the text into ssh, without -t")
        stdin = _read_text(streams)


def _relay(
    engine_room: EngineRoom,
    user: User,
    line: str,
    stdin: str | None,
    out: Callable[[str], None],
    err: Callable[[str], None],
) -> Frame:
    """Pass text on as it comes, and return the frame that ends the answer: an exit, or a question for input."""
    frames = cast(Generator[Frame], engine_room.command(user, line, stdin))
    with closing(frames):
        for frame in frames:
            if frame.operation:
                # On this thread, which is the session's, whatever is logged from here on tells of it.
                bind_contextvars(operation=frame.operation)
            if frame.out:
                out(frame.out)
            if frame.err:
                err(frame.err)
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
