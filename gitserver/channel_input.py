"""What a client sends on one channel (RFC 4254, 5.2): kept for whoever reads it, or passed straight on to a program.

A pack goes from the transport's thread into the program's pipe, with no queue and no other thread between them. While
the program does not read, neither does the transport, and TCP holds the client back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import paramiko

WINDOW_BYTES = 2 << 20
"""What a client may send ahead while somebody reads it here, and so the most that is kept; as OpenSSH's."""


class ChannelInput:
    """One channel's input. `grant` tells the client that it may send so many bytes more, or tells False for not now.

    `feed` and `end` are called on the transport's thread, `read` and `divert` on the session's, `settle` on any.
    """

    def __init__(self, grant: Callable[[int], bool]) -> None:
        self._grant = grant
        self.received = 0
        """Bytes that have come."""
        self._changed = threading.Condition()
        self._kept = bytearray()
        self._ended = False
        self._diverted = False
        self._pipe: int | None = None
        """While there is one to write to; without it, what has been diverted is thrown away."""
        self._window = WINDOW_BYTES
        self._announced = WINDOW_BYTES
        """What the client may still send."""

    @property
    def ended(self) -> bool:
        """Whether the client sends no more."""
        return self._ended

    def feed(self, data: memoryview | bytes) -> None:
        """Take what has come. Raises SSHException for more than the window allows."""
        with self._changed:
            self.received += len(data)
            self._announced -= len(data)
            if self._announced < 0:
                raise paramiko.SSHException("more data than the channel's window allows")
            if self._ended:
                return
            if not self._diverted:
                self._kept += data
                self._changed.notify()
                return
            # Looked up and written under one lock: what comes while the pipe is being put in place stays in order.
            self._write(data)
        self.settle()

    def end(self) -> None:
        """Note that the client sends no more."""
        with self._changed:
            self._ended = True
            self._close()
            self._changed.notify_all()

    def read(self, size: int) -> bytes:
        """Return from 1 to `size` bytes, or none at the end; waits."""
        with self._changed:
            while not self._kept and not self._ended:
                self._changed.wait()
            data = bytes(self._kept[:size])
            del self._kept[:size]
        self.settle()
        return data

    def divert(self, pipe: int, first: bytes, window: int) -> None:
        """Pass `first`, what is kept and all that comes from now on to a pipe; `window` bytes may be sent ahead.

        The descriptor is ours from here on, and closed at the client's end of data. When nobody reads the pipe any
        more, data are thrown away, so that the client gets to the point where it learns why.
        """
        with self._changed:
            self._diverted, self._pipe = True, pipe
            self._window = max(window, self._window)
            kept = bytes(self._kept)
            self._kept.clear()
            self._write(first)
            self._write(kept)
            if self._ended:
                self._close()
        self.settle()

    def settle(self) -> None:
        """Let the client send more, if that is worth a packet."""
        with self._changed:
            credit = self._window - self._announced - len(self._kept)
            if self._ended or credit < self._window // 4:
                return
            # Before it is granted, for the answer may be here before we are told that the packet has gone.
            self._announced += credit
        if not self._grant(credit):
            with self._changed:
                self._announced -= credit

    def _write(self, data: memoryview | bytes) -> None:
        rest = memoryview(data)
        try:
            while rest and self._pipe is not None:
                rest = rest[os.write(self._pipe, rest) :]
        except OSError:
            # The program has ended, or was killed.
            self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
