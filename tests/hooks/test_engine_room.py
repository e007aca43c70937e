"""A caller who leaves hears no more, however long the engine room goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hooks.engine_room import Caller, CallerGoneError, EngineRoom, EngineRoomUnreachableError, User

ALICE = User(1, "alice")
BEGINNING = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"out": "begun"}\n'


@pytest.fixture
def silent_room(tmp_path: Path) -> Iterator[Path]:
    """An engine room that begins every answer and never ends it."""
    path = tmp_path / "engine.sock"
    connections = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                # Who has left before asking closes at once.
                with suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(BEGINNING)

        thread = threading.Thread(target=answer)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def test_leaving_ends_an_answer_that_is_under_way(silent_room: Path) -> None:
    caller = Caller()
    frames = EngineRoom(silent_room).on_behalf_of(caller).command(ALICE, "logs")
    assert next(frames).out == "begun"
    leaving = threading.Timer(0.1, caller.leave)
    leaving.start()
    with pytest.raises(CallerGoneError):
        next(frames)
    leaving.join()


def test_nobody_who_has_left_is_answered(silent_room: Path) -> None:
    caller = Caller()
    caller.leave()
    with pytest.raises(CallerGoneError):
        next(EngineRoom(silent_room).on_behalf_of(caller).command(ALICE, "logs"))


def test_one_callers_leaving_is_nobody_elses(silent_room: Path) -> None:
    room = EngineRoom(silent_room)
    caller = Caller()
    gone = room.on_behalf_of(caller).command(ALICE, "logs")
    stays = room.on_behalf_of(Caller()).command(ALICE, "logs")
    assert next(gone).out == next(stays).out == "begun"
    caller.leave()
    with pytest.raises(CallerGoneError):
        next(gone)
    assert next(room.command(ALICE, "logs")).out == "begun"


def test_a_room_that_is_not_there_is_no_leaving(tmp_path: Path) -> None:
    with pytest.raises(EngineRoomUnreachableError):
        next(EngineRoom(tmp_path / "engine.sock").command(ALICE, "logs"))
