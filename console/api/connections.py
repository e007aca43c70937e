"""Connections of strangers over HTTP: how many there may be at once, and how long one may keep the server waiting.

The engine room serves them, and each is a descriptor of its own process. Whoever opens thousands, or sends a request
byte by byte, must not keep the others out, nor operations from opening their files.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
import threading
from collections import Counter
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from console.api.errors import MEDIA_TYPE, Problem

MOST_CONNECTIONS = 500
"""At once; of those above it, each request is answered 503."""

MOST_OPEN = 600
"""Above it, connections are closed as they come: from here on even the answer that there are too many is too much."""

MOST_PER_ADDRESS = 100
"""Of one subscriber, unless it is a proxy. An office behind one address has fewer people who deploy at once."""

COLLECT_EVERY = 64
"""Connections over TLS that are closed. Each leaves buffers of 300 KB in a cycle (asyncio.sslproto), and so few objects
that Python would look for garbage after thousands of them."""

REQUEST_SECONDS = 60.0
"""From the first byte of a request to the last one of its answer, and from connecting to the first byte."""


def subscriber(address: str) -> str:
    """Return what one subscriber has: an IPv4 address, or a network of 64 bits of IPv6 addresses (RFC 6177).

    A socket for both shows IPv4 addresses as parts of IPv6 (RFC 4291, section 2.5.5.2). What is no address of IPv6, but
    what a proxy calls its client, is taken as it is.
    """
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Network((found, 64), strict=False))


class Listener(socket.socket):
    """A listening socket that hands out no more connections than it may. TLS comes later, so it bounds those too."""

    def __init__(
        self,
        listening: socket.socket,
        most: int = MOST_OPEN,
        most_per_address: int | None = None,
        *,
        tls: bool = False,
    ) -> None:
        """Take a listening socket over. Without `most_per_address`, one address may have all connections."""
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        self._most = most
        self._most_per_address = most if most_per_address is None else most_per_address
        self._tls = tls
        self._closings = 0
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises ConnectionAbortedError, as if the client had left, for one that is too many."""
        accepted, peer = super().accept()
        whose = subscriber(peer[0])
        counted = _Counted(self, whose, fileno=accepted.detach())
        with self._lock:
            self._open[whose] += 1
            too_many = self._open.total() > self._most or self._open[whose] > self._most_per_address
        if too_many:
            counted.close()
            raise ConnectionAbortedError
        return counted, peer

    def closed(self, whose: str) -> None:
        """Count a connection less."""
        with self._lock:
            self._open[whose] -= 1
            if not self._open[whose]:
                del self._open[whose]
            self._closings += 1
            collect = self._tls and self._closings % COLLECT_EVERY == 0
        if collect:
            gc.collect()


class _Counted(socket.socket):
    """A connection that tells its listener when it is closed."""

    def __init__(self, listener: Listener, whose: str, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self._listener: Listener | None = listener
        self._whose = whose

    def close(self) -> None:
        """Close it."""
        super().close()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.closed(self._whose)


class Connection(H11Protocol):
    """An HTTP/1.1 connection that is cut when a request, its answer included, takes too long.

    Between requests it is kept for as long as the server is told to keep idle ones.
    """

    _began: float | None = None
    """When what is being waited for began; None while nothing is."""
    _reading: bool = True
    """False while the client has yet to take what it was answered."""
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Wait for the first request."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self._began is None or not self._reading:
            self._began, self._reading = self.loop.time(), True
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Begin anew with the next request, which may have come already."""
        answered = self.cycle
        self._reading = not self.transport.get_write_buffer_size()
        if self._reading:
            self._began = None
        super().on_response_complete()
        if self.cycle is not answered:
            self._began, self._reading = self.loop.time(), True

    def resume_writing(self) -> None:
        """Go on: the client has taken most of what it was answered."""
        super().resume_writing()
        if not self._reading:
            self._began, self._reading = None, True

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the form of every other refusal, and close the connection."""
        body = Problem(code=HTTPStatus.BAD_REQUEST, error="bad_request", message=msg).model_dump_json().encode()
        headers = [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (
            h11.Response(status_code=HTTPStatus.BAD_REQUEST, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _look(self) -> None:
        # One timer that looks again, instead of one for each request: there are thousands of them in a second.
        now = self.loop.time()
        if self._began is not None and now >= self._began + REQUEST_SECONDS:
            self.transport.abort()
            return
        self._deadline = self.loop.call_at((self._began or now) + REQUEST_SECONDS, self._look)
