"""What somebody types to a program that runs for them, on its way from the event loop to the thread that writes it.

The sender keeps to a window (`hooks.command_input`), so no more waits here than that.
"""

from __future__ import annotations

import base64
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from releaser.terminal import Size


class Typed:
    """One program's input (`releaser.attached.Typed`). `taken` is told how many bytes of it the program has got."""

    def __init__(self) -> None:
        self.taken: Callable[[int], None] = lambda _count: None
        self._changed = threading.Condition()
        self._waiting: deque[bytes | Size] = deque()
        self._ended = False

    def feed(self, frame: Mapping[str, Any]) -> None:
        """Take one frame of input. Raises ValueError or KeyError for what is none."""
        with self._changed:
            if "in" in frame:
                self._waiting.append(base64.b64decode(frame["in"], validate=True))
            elif "end" in frame:
                self._ended = True
            else:
                size = Size.of(int(frame["columns"]), int(frame["rows"]))
                if self._waiting and isinstance(self._waiting[-1], Size):
                    self._waiting.pop()  # only the last one counts
                self._waiting.append(size)
            self._changed.notify()

    def end(self) -> None:
        """Note that nothing more is coming."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def close(self) -> None:
        """Let whoever iterates have nothing more."""
        with self._changed:
            self._waiting.clear()
            self._ended = True
            self._changed.notify()

    def __iter__(self) -> Iterator[bytes | Size]:
        """Yield what comes; asking for the next piece says that the program has got the one before."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                piece = self._waiting.popleft()
            yield piece
            if isinstance(piece, bytes):
                self.taken(len(piece))
