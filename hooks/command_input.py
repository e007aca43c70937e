"""Standard input of a command that runs in the engine room, sent while its answer is read.

It goes the way that the command went, as further lines of the same request's body, one JSON object a line:

* `{"in": "BASE64"}`: bytes for standard input.
* `{"columns": 80, "rows": 24}`: the terminal has this size now.
* `{"end": true}`: standard input has ended.

No more than WINDOW_BYTES are on their way at once; the answer's `taken` frames say how many have reached the program.
So the engine room can always read what is sent, and notices that a caller has left although a program reads nothing.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from contextlib import suppress
from typing import Any

from hooks.unix_http import chunk

WINDOW_BYTES = 256 * 1024
"""Enough to keep a program busy over a Unix socket; small enough to be held in memory for everybody who types."""


class CommandInput:
    """One command's input. `EngineRoom.command` opens it; whoever sends waits for that, and for room in the window.

    Sending into one that is closed does nothing: the command is over.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._connection: socket.socket | None = None
        self._closed = False
        self._room = WINDOW_BYTES

    def open(self, connection: socket.socket) -> None:
        """Begin to send on a connection whose request body, in chunks (RFC 9112, section 7.1), goes on."""
        with self._changed:
            self._connection = connection
            self._changed.notify_all()

    def close(self) -> None:
        """Send nothing more. Whoever waits to send is let go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, count: int) -> None:
        """Note that so many bytes have reached the program."""
        with self._changed:
            self._room += count
            self._changed.notify_all()

    def send(self, data: bytes) -> None:
        """Send bytes, up to WINDOW_BYTES of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._connection and self._room >= len(data)))
            self._room -= len(data)
            self._put({"in": base64.b64encode(data).decode()})

    def resize(self, columns: int, rows: int) -> None:
        """Tell a new size of the terminal; one that comes too early is dropped, since the command tells the first."""
        with self._changed:
            self._put({"columns": columns, "rows": rows})

    def end(self) -> None:
        """Let standard input end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._connection)
            self._put({"end": True})

    def _put(self, frame: dict[str, Any]) -> None:
        if self._closed or self._connection is None:
            return
        with suppress(OSError):  # whoever reads the answer meets the reason
            self._connection.sendall(chunk(json.dumps(frame).encode() + b"\n"))
