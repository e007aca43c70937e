"""An app's log for its owner: every line with its service's name, and no value of the config."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from hooks.redaction import Patterns, Redactor

LONGEST_LINE = 16_384
"""Characters; a longer line is shown in several."""

_SELECT_GRAPHIC_RENDITION = re.compile(r"\x1b\[[0-9;:]*m")
"""Colours, which do no harm (ECMA-48, 8.3.117). Other control sequences could steer a terminal, and a visitor may be
able to bring them into a log."""

Write = Callable[[str], None]


class ServiceLog:
    """Turns what one container writes into lines. `secrets` are what `hooks.redaction.patterns` returns."""

    def __init__(self, title: str, secrets: Patterns, write: Write) -> None:
        self._title = title
        self._write = write
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor = Redactor(secrets)
        self._line = ""

    def feed(self, chunk: bytes) -> None:
        """Take some more of what the container writes."""
        self._take(self._redactor.feed(self._decoder.decode(chunk)))

    def end(self) -> None:
        """Show what is left."""
        self._take(self._redactor.flush())
        if self._line:
            self._take("\n")

    def _take(self, text: str) -> None:
        *whole, self._line = (self._line + text).split("\n")
        while len(self._line) > LONGEST_LINE:
            whole.append(self._line[:LONGEST_LINE])
            self._line = self._line[LONGEST_LINE:]
        if whole:
            self._write("".join(f"{self._title} | {_harmless(line)}\n" for line in whole))


def _harmless(line: str) -> str:
    """Return a line without control characters, tabs and colours apart."""
    line = line.removesuffix("\r")
    parts, position = [], 0
    for colour in _SELECT_GRAPHIC_RENDITION.finditer(line):
        parts += [_printable(line[position : colour.start()]), colour[0]]
        position = colour.end()
    return "".join([*parts, _printable(line[position:])])


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else " " for char in text)
