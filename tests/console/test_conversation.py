"""Bytes both ways over one request, between the two real ends of it, with a program of the test's own in between."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console import live
from console.conversation import Conversation, Lines
from console.live import Attached
from console.typed import Typed
from hooks.command_input import WINDOW_BYTES, CommandInput
from hooks.engine_room import Caller, CallerGoneError, EngineRoom, Frame
from releaser.attached import Typed as WhatIsTyped
from releaser.attached import WriteBytes
from releaser.terminal import Size

Program = Callable[[WhatIsTyped, WriteBytes, WriteBytes, threading.Event], int]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Program], EngineRoom]]:
    """Run a program for whoever asks for a command."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(program: Program) -> EngineRoom:
        async def command(request: Request) -> Response:
            lines, typed = Lines(request.receive), Typed()
            assert (await lines.next())["line"] == "run"
            return Conversation(lines, live.frames(Attached(program), typed), typed)

        path = tmp_path / "room.sock"
        application = Starlette(routes=[Route("/commands", command, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(application, uds=str(path), log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            thread.join(0.01)
        return EngineRoom(path)

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join()


def repeat(typed: WhatIsTyped, out: WriteBytes, err: WriteBytes, _gone: threading.Event) -> int:
    for piece in typed:
        if isinstance(piece, Size):
            err(f"{piece.columns} x {piece.rows}".encode())
        else:
            out(piece)
    return 9


def begun(room: EngineRoom, typed: CommandInput) -> Iterator[Frame]:
    frames = room.command(None, "run", typed=typed)
    assert next(frames).attach
    return frames


def test_what_is_typed_comes_back_whole_however_much_it_is(serve: Callable[[Program], EngineRoom]) -> None:
    typed, sent = CommandInput(), random.Random(1).randbytes(5 * WINDOW_BYTES)
    frames = begun(serve(repeat), typed)

    def send() -> None:
        for start in range(0, len(sent), 1 << 14):
            typed.send(sent[start : start + (1 << 14)])
        typed.end()

    sender = threading.Thread(target=send)
    sender.start()
    answered = list(frames)
    sender.join()
    assert b"".join(frame.raw or b"" for frame in answered) == sent
    assert answered[-1].exit == 9


def test_a_terminals_size_is_told_and_has_bounds(serve: Callable[[Program], EngineRoom]) -> None:
    typed = CommandInput()
    frames = begun(serve(repeat), typed)
    typed.resize(120, 40)
    assert next(frames).raw_err == b"120 x 40"
    typed.resize(0, 1_000_000)
    assert next(frames).raw_err == b"80 x 65535"
    typed.end()
    assert next(frames).exit == 9


def test_who_leaves_is_missed_though_nothing_that_they_typed_is_read(serve: Callable[[Program], EngineRoom]) -> None:
    ended = threading.Event()

    def deaf(_typed: WhatIsTyped, _out: WriteBytes, _err: WriteBytes, gone: threading.Event) -> int:
        assert gone.wait(20)
        ended.set()
        return 0

    caller, typed = Caller(), CommandInput()
    frames = begun(serve(deaf).on_behalf_of(caller), typed)

    def fill() -> None:
        for _ in range(2 * WINDOW_BYTES >> 14):
            typed.send(bytes(1 << 14))  # waits when the window is full, until the caller has left

    filler = threading.Thread(target=fill)
    filler.start()
    caller.leave()
    with pytest.raises(CallerGoneError):
        next(frames)
    filler.join(20)
    assert not filler.is_alive()
    assert ended.wait(20)


def test_who_does_not_read_holds_the_program_up_and_may_leave(serve: Callable[[Program], EngineRoom]) -> None:
    ended = threading.Event()

    def endless(_typed: WhatIsTyped, out: WriteBytes, _err: WriteBytes, gone: threading.Event) -> int:
        try:
            while True:
                out(bytes(1 << 16))
        finally:
            assert gone.is_set()
            ended.set()

    caller = Caller()
    frames = begun(serve(endless).on_behalf_of(caller), CommandInput())
    assert cast(bytes, next(frames).raw) == bytes(1 << 16)
    caller.leave()
    assert ended.wait(20)


def test_sending_after_the_end_does_nothing(serve: Callable[[Program], EngineRoom]) -> None:
    typed = CommandInput()
    frames = begun(serve(lambda *_: 3), typed)
    assert [frame.exit for frame in frames] == [3]
    typed.send(b"late")
    typed.resize(1, 1)
    typed.end()
