"""A client's standard input, output and error, and its leaving."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import paramiko

from gitserver.transport import Transport

MAX_WRITE_BYTES = 32_000
"""How much is handed to paramiko at a time: less than OpenSSH's packets, since paramiko copies what is left over."""


class ClientGoneError(Exception):
    """The client has closed its session, or its connection has died: there is nobody left to answer."""


class ClientStreams:
    """The two ends of one SSH session channel (RFC 4254, section 6), as a program sees its three files.

    Reading and writing raise ClientGoneError once the client has left. Writing may be done by several threads; it waits
    while the client does not read.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._transport = cast(Transport, channel.get_transport())
        self._input = self._transport.inputs[channel.chanid]
        self._reading = self._writing = 0
        self._written = 0
        self._lock = threading.Lock()
        self._gone = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self._gone

    @property
    def awaited(self) -> bool:
        """Whether the session waits for the client, to send or to read."""
        return self._writing > 0 or (self._reading > 0 and not self._input.ended)

    @property
    def received(self) -> int:
        """How many bytes have come from the client."""
        return self._input.received

    @property
    def sent(self) -> int:
        """How many bytes have gone to the client, keepalives left out."""
        return self._written

    @property
    def moved(self) -> int:
        """How many bytes have come from the client and gone to it, keepalives left out."""
        return self.received + self.sent

    @contextmanager
    def awaiting_input(self) -> Iterator[None]:
        """Note that the client is to send something while the block runs."""
        with self._lock:
            self._reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1

    def read(self, size: int) -> bytes:
        """Return from 1 to `size` bytes of standard input, or none at its end."""
        with self.awaiting_input():
            return self.listen(size)

    def listen(self, size: int) -> bytes:
        """Return what `read` would, of a client who need not say anything."""
        data = self._input.read(size)
        if not data and (self._gone or self._channel.closed):
            raise ClientGoneError
        return data

    def divert(self, pipe: int, first: bytes = b"") -> None:
        """Pass `first` and then all of standard input to a pipe, and close that at the end; it belongs to us from here.

        Once nobody reads the pipe, the rest of the input is thrown away.
        """
        self._input.divert(pipe, first, self._transport.bulk_window)

    def write(self, data: bytes) -> None:
        """Write to standard output."""
        self._send(self._channel.sendall, data)
        self._count(data)

    def keep_alive(self, data: bytes) -> None:
        """Write to standard output what is of no use but to be there, and so buys the client no time."""
        self._send(self._channel.sendall, data)

    def write_error(self, data: bytes) -> None:
        """Write to standard error."""
        self._send(self._channel.sendall_stderr, data)
        self._count(data)

    def finish(self, status: int) -> None:
        """Report the exit status and close the session (RFC 4254, 6.10)."""
        try:
            self._channel.send_exit_status(status)
        finally:
            self._channel.close()
            # A client may never close its end, and paramiko keeps a channel for as long as anybody else does.
            self._transport.forget(self._channel)

    def hang_up(self) -> None:
        """Note that the client has left, and tell whoever asked to be told."""
        with self._lock:
            self._gone = True
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    @contextmanager
    def when_gone(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` once if the client leaves before the block ends, or has left already.

        It may be called from any thread and must neither wait nor raise.
        """
        with self._lock:
            self._callbacks.append(callback)
            gone = self._gone
        try:
            if gone:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)

    def _count(self, data: bytes) -> None:
        with self._lock:
            self._written += len(data)

    def _send(self, send: Callable[[bytes], None], data: bytes) -> None:
        if self._gone:
            raise ClientGoneError
        with self._lock:
            self._writing += 1
        try:
            for start in range(0, len(data), MAX_WRITE_BYTES):
                send(data[start : start + MAX_WRITE_BYTES])
        except (OSError, EOFError) as error:
            raise ClientGoneError from error
        finally:
            with self._lock:
                self._writing -= 1
