"""A client's standard input, output and error, and its leaving."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko


class ClientGoneError(Exception):
    """The client has closed its session, or its connection has died: there is nobody left to answer."""


class ClientStreams:
    """The two ends of one SSH session channel (RFC 4254, section 6), as a program sees its three files.

    Reading and writing raise ClientGoneError once the client has left. Writing may be done by several threads; it waits
    while the client does not read.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._gone = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self._gone

    def read(self, size: int) -> bytes:
        """Return from 1 to `size` bytes of standard input, or none at its end."""
        data = self._channel.recv(size)
        if not data and (self._gone or self._channel.closed):
            raise ClientGoneError
        return data

    def write(self, data: bytes) -> None:
        """Write to standard output."""
        self._send(self._channel.sendall, data)

    def write_error(self, data: bytes) -> None:
        """Write to standard error."""
        self._send(self._channel.sendall_stderr, data)

    def finish(self, status: int) -> None:
        """Report the exit status and close the session (RFC 4254, 6.10)."""
        try:
            self._channel.send_exit_status(status)
        finally:
            self._channel.close()

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

    def _send(self, send: Callable[[bytes], None], data: bytes) -> None:
        if self._gone:
            raise ClientGoneError
        try:
            send(data)
        except (OSError, EOFError) as error:
            raise ClientGoneError from error
