"""The terminal at somebody's end of a program (RFC 4254, sections 6.2 and 6.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

LARGEST = 65535
"""Columns or rows at most: the kernel keeps them in 16 bits (tty_ioctl(4), struct winsize)."""

USUAL = (80, 24)
"""What a terminal counts as that does not say how large it is."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
"""What a name in the terminals' database looks like (term(7)); anything else could be read as a path."""


class Size(NamedTuple):
    """A terminal's size in characters."""

    columns: int
    rows: int

    @classmethod
    def of(cls, columns: int, rows: int) -> Self:
        """Return a size that a terminal can have: zero means that it is not known."""
        given = (columns or USUAL[0], rows or USUAL[1])
        return cls(*(max(1, min(each, LARGEST)) for each in given))


@dataclass(frozen=True)
class Terminal:
    """A terminal's kind, as TERM has it, and its size."""

    name: str
    size: Size

    @classmethod
    def of(cls, name: str, columns: int, rows: int) -> Self:
        """Return a terminal as a client describes it; a kind that can be none is `dumb`."""
        return cls(name if _NAME.match(name) else "dumb", Size.of(columns, rows))
