"""What the engine reports while it works, as lines for a person.

The engine answers a build or a pull with a stream of JSON objects ("JSON messages" of the Docker Engine API): pieces of
the builder's own output, states of layers many times a second, and at the end an image's id or an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

NO_SPACE = "no space left on device"
"""What ENOSPC is called by the C library, by Go, and so by the engine and most programs; in lower case."""

LONGEST_LINE = 64 << 10
"""Characters that are held back for a line's end. A program that never ends its line must not fill the memory."""

_STDERR = ("\x1b[91m", "\x1b[0m")
"""The classic builder paints what a program writes to standard error red."""
_LAYER_ENDS = frozenset({"Pull complete", "Already exists"})


class Lines:
    """Gathers pieces of output into whole lines and says them at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = ""
        self.prefix = ""
        """What stands before each line."""

    def add(self, text: str) -> None:
        """Take a piece of output; its finished lines are said before this returns."""
        *whole, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > LONGEST_LINE:
            whole.append(self._rest)
            self._rest = ""
        if whole:
            self._say("".join(f"{self.prefix}{_as_seen(line)}\n" for line in whole))

    def end(self) -> None:
        """Say what is left of a line without an end."""
        if self._rest:
            self.add("\n")


def unpainted(text: str) -> str:
    """Return one message of the classic builder without the red of standard error."""
    start, end = _STDERR
    return text.removeprefix(start).removesuffix(end) if text.startswith(start) else text


def one_line(text: str) -> str:
    """Return somebody else's words for the inside of a sentence: one line, nothing that a terminal would act on."""
    words = " ".join(text.split()).removesuffix(".")
    return "".join(character if character.isprintable() else "?" for character in words)


def pull_lines(messages: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one line per layer of a pull, when the layer is there. Raises ValueError with the engine's error."""
    for message in messages:
        if error := message.get("error"):
            raise ValueError(str(error))
        if message.get("status") in _LAYER_ENDS:
            yield f"  {message.get('id', '')}: {message['status'].lower()}\n"


def _as_seen(line: str) -> str:
    """Return a line as a terminal would leave it: a progress bar rewrites its line with carriage returns."""
    return line.rstrip("\r").rpartition("\r")[2]
