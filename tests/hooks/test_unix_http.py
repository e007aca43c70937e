"""A connection to the engine room serves the next question too, unless something was left unread or was closed."""

from __future__ import annotations

import http.server
import json
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hooks import unix_http
from hooks.command_input import CommandInput
from hooks.engine_room import Caller, CallerGoneError, EngineRoom, EngineRoomUnreachableError, User
from hooks.unix_http import MOST_KEPT, chunk
from store.errors import RefusedError

ALICE = User(1, "alice")


class Answering(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An engine room that counts how often somebody connects."""

    daemon_threads = True
    connected = 0
    bodies: list[bytes]
    going_on: threading.Event
    """Unset to stop answers after their first frame."""
    hangs_up = False
    """Whether it closes each connection once it has answered, without having said so."""

    def process_request(self, request: object, client_address: object) -> None:
        """Count."""
        self.connected += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]  # as socketserver has it


class Handler(http.server.BaseHTTPRequestHandler):
    """Whoever asks by the name of bob is refused; commands are answered with three frames and the end."""

    protocol_version = "HTTP/1.1"
    server: Answering

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        if self.path == "/commands":
            self._answer_in_frames()
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = body.get("user") == 2
        text = json.dumps({"error": "no"} if refused else {"app": "web", "path": "/p", "deploying_branches": []})
        self.send_response(403 if refused else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
        self.close_connection = self.server.hangs_up

    def _answer_in_frames(self) -> None:
        self._chunk()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        frames = [{"out": "one\n"}, {"out": "two\n"}, {"exit": 0}]
        first, *others = [json.dumps(frame).encode() + b"\n" for frame in frames]
        self.wfile.write(chunk(first))
        assert self.server.going_on.wait(30)
        with suppress(OSError):  # nobody reads it
            self.wfile.write(b"".join(map(chunk, [*others, b""])))
        while data := self._chunk():
            self.server.bodies.append(data)

    def _chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline() or b"0", 16))
        self.rfile.readline()
        return data


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Answering]:
    server = Answering(str(tmp_path / "engine.sock"), Handler)
    server.bodies = []
    server.going_on = threading.Event()
    server.going_on.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def room(server: Answering, tmp_path: Path) -> EngineRoom:
    return EngineRoom(tmp_path / "engine.sock")


def test_one_connection_serves_one_question_after_the_other(server: Answering, room: EngineRoom) -> None:
    for caller in (Caller(), Caller()):
        assert room.on_behalf_of(caller).repository(ALICE, "web", "git-receive-pack").app == "web"
        with pytest.raises(RefusedError):
            room.repository(User(2, "bob"), "web", "git-receive-pack")
        assert [frame.out for frame in room.command(ALICE, "logs", typed=CommandInput())] == ["one\n", "two\n", None]
    assert server.connected == 1


def test_an_answer_whose_reader_stops_at_its_last_frame_has_been_read(server: Answering, room: EngineRoom) -> None:
    for _ in range(3):
        for frame in room.command(ALICE, "logs", typed=CommandInput()):
            if frame.exit is not None:
                break
    room.repository(ALICE, "web", "git-receive-pack")
    assert server.connected == 1
    assert server.bodies == []


def test_what_was_not_read_to_its_end_is_not_taken_for_the_next_answer(server: Answering, room: EngineRoom) -> None:
    server.going_on.clear()
    frames = room.command(ALICE, "logs", typed=CommandInput())
    assert next(frames).out == "one\n"
    del frames
    server.going_on.set()
    assert room.repository(ALICE, "web", "git-receive-pack").app == "web"
    assert server.connected == 2


def test_a_connection_that_was_closed_meanwhile_is_replaced(server: Answering, room: EngineRoom) -> None:
    server.hangs_up = True
    for number in range(1, 4):
        assert room.repository(ALICE, "web", "git-receive-pack").app == "web"
        select.select([room._connections._kept[0][1].sock], [], [], 30)
        assert server.connected == number


def test_whoever_has_left_takes_no_connection_along(server: Answering, room: EngineRoom) -> None:
    gone = Caller()
    server.going_on.clear()
    frames = room.on_behalf_of(gone).command(ALICE, "logs", typed=CommandInput())
    next(frames)
    gone.leave()
    with pytest.raises(CallerGoneError):
        next(frames)
    server.going_on.set()
    assert room.repository(ALICE, "web", "git-receive-pack").app == "web"


def test_after_a_crowd_a_few_connections_are_kept_for_a_while(
    server: Answering, room: EngineRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = threading.Barrier(3 * MOST_KEPT)

    def ask() -> None:
        frames = room.command(ALICE, "logs", typed=CommandInput())
        next(frames)
        meeting.wait(30)
        assert [frame.exit for frame in frames][-1] == 0

    crowd = [threading.Thread(target=ask) for _ in range(3 * MOST_KEPT)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert server.connected == 3 * MOST_KEPT
    assert len(room._connections._kept) == MOST_KEPT
    room.close_idle()
    assert len(room._connections._kept) == MOST_KEPT
    monkeypatch.setattr(unix_http, "KEPT_SECONDS", -1.0)
    room.close_idle()
    assert not room._connections._kept


def test_a_server_that_takes_no_connection_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineRoom, "ANSWER_SECONDS", 0.3)
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))  # the queue is full now
        with pytest.raises(EngineRoomUnreachableError):
            EngineRoom(path).repository(ALICE, "web", "git-receive-pack")
