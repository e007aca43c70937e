"""HTTP over a Unix socket, on connections that are kept for the next request: most questions cost less than connecting.

A client of our own server only, so the little that it needs of HTTP is written here, and httptools reads the answers.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httptools

MOST_KEPT = 8
"""Connections that one process keeps; what needs more at once has them made, and closed again."""

KEPT_SECONDS = 60.0
"""How long one is kept. The server must keep idle ones for longer: it would close one just as it is used again."""

CHUNK_BYTES = 1 << 16
"""How much is read at a time."""


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield an address for the Unix socket at `path` that fits into the 108 bytes of `sun_path` (unix(7)).

    A data folder may lie deep; the folder's descriptor under /proc makes a short name for it.
    """
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def chunk(data: bytes) -> bytes:
    """Return one chunk of a body that is sent in chunks (RFC 9112, section 7.1); the one without data is its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Answer:
    """What a request is answered with, as it comes. What breaks off or is no HTTP raises OSError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._body = bytearray()
        self.ended = False
        """Whether it has come to its end."""
        self.last = True
        """Whether the connection is good for no other request, as long as it has not ended at least."""

    @property
    def status(self) -> int:
        """The status code, which is waited for."""
        while not self._begun:
            self._receive_more()
        return self._parser.get_status_code()

    def read(self) -> bytes:
        """Return the whole body."""
        while not self.ended:
            self._receive_more()
        return bytes(self._body)

    def lines(self) -> Iterator[bytes]:
        """Yield each line of the body as it comes; after what has broken off, there is none."""
        more = True
        while more:
            *lines, self._body = self._body.split(b"\n")
            yield from map(bytes, lines)
            more = not self.ended and self._receive()

    def finish(self) -> None:
        """Read the mark of its end, if that is there: it comes right after the last line, and is not waited for."""
        if not self.ended:
            self._connection.settimeout(0)
            with suppress(OSError):
                self._receive()

    def _receive_more(self) -> None:
        if not self._receive():
            raise ConnectionResetError("the answer broke off")

    def _receive(self) -> bool:
        """Take what comes next; False if nothing does."""
        data = self._connection.recv(CHUNK_BYTES)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ConnectionResetError("the answer is no HTTP") from error
        return bool(data)

    # What the parser tells (httptools.HttpResponseParser)

    def on_headers_complete(self) -> None:
        """Note that the status is known."""
        self._begun = True

    def on_body(self, data: bytes) -> None:
        """Keep what has come."""
        self._body += data

    def on_message_complete(self) -> None:
        """Note the end."""
        self.ended, self.last = True, not self._parser.should_keep_alive()


class Connection:
    """A connection to a Unix socket, for one request at a time."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        """Connect within `timeout` seconds. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        # A server that hangs lets connections queue, and then nobody gets into the queue.
        self.sock.settimeout(timeout)
        try:
            with short_address(path) as address:
                self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise
        self._open = False

    def request(self, method: str, path: str, body: bytes, *, open_ended: bool = False) -> Answer:
        """Send a request whose body is JSON, one value a line, and return the answer. Raises OSError.

        If it is open-ended, further lines may follow, each a `chunk`, until the answer has ended.
        """
        length = b"Transfer-Encoding: chunked" if open_ended else b"Content-Length: %d" % len(body)
        head = b"%b %b HTTP/1.1\r\nHost: engine-room\r\nContent-Type: application/json\r\n%b\r\n\r\n"
        self._open = open_ended
        self.sock.sendall(head % (method.encode(), path.encode(), length) + (chunk(body) if open_ended else body))
        return Answer(self.sock)

    @property
    def silent(self) -> bool:
        """Whether the other side has neither closed it nor said what nobody asked for."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def end_request(self, answer: Answer) -> bool:
        """Return whether the request is over and there may be another."""
        answer.finish()
        if answer.last:
            return False
        if self._open:
            try:
                self.sock.sendall(chunk(b""))
            except OSError:
                return False
        return True


class Connections:
    """The connections to one Unix socket. Safe in any thread; whoever forks does so before the first one is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kept: list[tuple[float, Connection]] = []

    def take(self, timeout: float | None) -> Connection:
        """Return a connection for one request, whose parts may each take `timeout` seconds. Raises OSError."""
        while True:
            with self._lock:
                since, connection = self._kept.pop() if self._kept else (0.0, None)
            if connection is None:
                return Connection(self._path, timeout)
            if time.monotonic() - since > KEPT_SECONDS or not connection.silent:
                connection.sock.close()
            else:
                connection.sock.settimeout(timeout)
                return connection

    def close_idle(self) -> None:
        """Close those that have been kept for too long."""
        now = time.monotonic()
        with self._lock:
            old = [connection for since, connection in self._kept if now - since > KEPT_SECONDS]
            self._kept = self._kept[len(old) :]  # the longest kept come first
        for connection in old:
            connection.sock.close()

    def give_back(self, connection: Connection, answer: Answer | None) -> None:
        """Keep a connection for the next request, or close it: unless `answer` has come to its end."""
        if answer is not None and connection.end_request(answer):
            with self._lock:
                if len(self._kept) < MOST_KEPT:
                    self._kept.append((time.monotonic(), connection))
                    return
        connection.sock.close()
