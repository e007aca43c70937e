"""One question to a container that nobody trusts yet: over HTTP, or whether it takes connections at all.

What answers may be broken or hostile: it may trickle, never end, or not speak HTTP. So only the status line is read
(RFC 9112 section 4), up to a bound and a deadline, and whoever waits is asked again and again whether to go on.
"""

from __future__ import annotations

import errno
import re
import select
import socket
import time
from collections.abc import Callable
from enum import Enum

SLICE_SECONDS = 0.05
"""How long to wait for the container before asking `watch` again."""

MAX_STATUS_LINE = 4096
"""Bytes. A status line is three words; RFC 9112 names 8000 only for request lines."""

_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: |\r?\n)")


class Silence(Enum):
    """Why there was no HTTP status."""

    REFUSED = "nothing listens there"
    TIMEOUT = "it takes the connection, but sends no answer"
    CLOSED = "it closes the connection without an answer"
    NOT_HTTP = "what answers there is not HTTP"


def get(address: str, port: int, path: str, host: str, *, seconds: float, watch: Callable[[], None]) -> int | Silence:
    """Send `GET path` and return the status code, 100 to 599, or why there is none.

    `watch` is called every SLICE_SECONDS; what it raises ends the question and is raised here.
    """
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_INET) as connection:
        connection.setblocking(False)
        try:
            if not _connected(connection, (address, port), deadline, watch):
                return Silence.REFUSED
            request = (
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: slipway-health-check\r\nConnection: close\r\n\r\n"
            )
            connection.sendall(request.encode("ascii"))  # a new connection's send buffer takes it whole
            return _status(connection, deadline, watch)
        except OSError:
            return Silence.CLOSED


def listens(address: str, port: int, *, seconds: float, watch: Callable[[], None]) -> bool:
    """Return whether a TCP connection is taken; see `get`."""
    with socket.socket(socket.AF_INET) as connection:
        connection.setblocking(False)
        try:
            return _connected(connection, (address, port), time.monotonic() + seconds, watch)
        except OSError:
            return False


def _connected(connection: socket.socket, peer: tuple[str, int], deadline: float, watch: Callable[[], None]) -> bool:
    begun = connection.connect_ex(peer)
    if begun == errno.EINPROGRESS:
        _ready(connection, select.POLLOUT, deadline, watch)
        begun = connection.connect_ex(peer)  # once more for the outcome (connect(2), EISCONN)
    return begun in {0, errno.EISCONN}


def _status(connection: socket.socket, deadline: float, watch: Callable[[], None]) -> int | Silence:
    line = b""
    while b"\n" not in line and len(line) < MAX_STATUS_LINE:
        if not _ready(connection, select.POLLIN, deadline, watch):
            return Silence.TIMEOUT
        received = connection.recv(MAX_STATUS_LINE - len(line))
        if not received:
            return Silence.NOT_HTTP if line else Silence.CLOSED
        line += received
    match = _STATUS_LINE.match(line)
    return int(match[1]) if match else Silence.NOT_HTTP


def _ready(connection: socket.socket, event: int, deadline: float, watch: Callable[[], None]) -> bool:
    """Wait until the socket is ready, and return whether it became so before the deadline."""
    poll = select.poll()  # select() fails on descriptors above 1023, which a busy server has
    poll.register(connection, event)
    while True:
        watch()
        left = deadline - time.monotonic()
        if poll.poll(max(0, min(left, SLICE_SECONDS)) * 1000):
            return True
        if left <= 0:
            return False
