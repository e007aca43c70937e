"""What a health check makes of whoever answers, or does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from releaser.probe import MAX_STATUS_LINE, Silence, get
from store.errors import CancelledError


@contextmanager
def listener(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port, and let `behave` have every connection that comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(4096)
                        behave(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def trickle(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"H")
        time.sleep(0.05)


def ask(port: int, seconds: float = 5, watch: Callable[[], None] = lambda: None) -> int | Silence:
    return get("127.0.0.1", port, "/", "localhost", seconds=seconds, watch=watch)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 500 No\r\n\r\n", 500),
        (b"HTTP/1.1 404\r\n", 404),
        (b"220 mail.example ESMTP\r\n", Silence.NOT_HTTP),
        (b"HTTP/1.1 200", Silence.NOT_HTTP),
        (b"x" * (MAX_STATUS_LINE + 1), Silence.NOT_HTTP),
        (b"", Silence.CLOSED),
    ],
)
def test_the_status_line_decides(sent: bytes, answer: int | Silence) -> None:
    with listener(lambda connection: connection.sendall(sent)) as port:
        assert ask(port) == answer


def test_nobody_listens(free_port: Callable[[], int]) -> None:
    assert ask(free_port()) is Silence.REFUSED


def test_an_answer_that_trickles_ends_with_the_deadline() -> None:
    with listener(trickle) as port:
        assert ask(port, seconds=0.3) is Silence.TIMEOUT


def test_whoever_waits_for_a_silent_container_can_be_called_off() -> None:
    looks = 0

    def watch() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise CancelledError("enough")

    over = threading.Event()

    def keep_silent(_: socket.socket) -> None:
        over.wait(60)

    with listener(keep_silent) as port:
        try:
            with pytest.raises(CancelledError):
                ask(port, seconds=60, watch=watch)
        finally:
            over.set()
