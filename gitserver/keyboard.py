"""What a client sends while its command runs: for the program that it is attached to, or, before that, Ctrl-C."""

from __future__ import annotations

import threading

from gitserver.streams import ClientGoneError, ClientStreams
from hooks.command_input import CommandInput

INTERRUPT = b"\x03"
"""What a terminal in raw mode sends for Ctrl-C."""

PIECE_BYTES = 1 << 14
"""What is sent on at once."""

AHEAD_BYTES = 1 << 12
"""What may be typed before a program is there to read it: as much as a pseudo-terminal keeps (termios(3), 4096)."""


class Keyboard:
    """One session's input, listened to on a thread: at a terminal from the start, else once a program is attached."""

    def __init__(self, streams: ClientStreams) -> None:
        self.command = CommandInput()
        """Where it goes, once a program is attached."""
        self._streams = streams
        self._lock = threading.Lock()
        self._attached = False
        self._ended = False
        self._ahead = b""
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Begin to listen. Ctrl-C ends the session as long as no program is there that would make a signal of it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="keyboard", daemon=True)
            self._thread.start()

    def attach(self) -> None:
        """Send what has come, and what will come, to the program."""
        with self._lock:
            self._attached = True
            if self._ahead:
                self.command.send(self._ahead)
            if self._ended:
                self.command.end()
        self.listen()

    def _listen(self) -> None:
        try:
            while data := self._streams.listen(PIECE_BYTES):
                with self._lock:
                    attached = self._attached
                    if not attached:
                        self._ahead = (self._ahead + data)[:AHEAD_BYTES]
                if attached:
                    self.command.send(data)
                elif INTERRUPT in data:
                    self._streams.hang_up()
                    return
        except ClientGoneError:
            return
        with self._lock:
            self._ended = True
            if self._attached:
                self.command.end()
