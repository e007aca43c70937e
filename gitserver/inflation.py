"""What the packs of a push inflate to, read from the headers of their objects (gitformat-pack(5)).

Git streams large objects and so is not harmed by a pack that inflates to a thousand times its size; those who clone,
check out or build from it are.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gitserver.limits import PushLimits

_OFFSET_DELTA, _REFERENCE_DELTA = 6, 7

_FANOUT = 8
"""Where the index's fan-out table begins, behind signature and version."""

_ENTRY_BYTES = 20 + 4
"""What precedes the offsets in the index for each object: its id and its checksum."""

_FAR = 1 << 31
"""The bit of an offset that says that the rest is a place in the table of offsets beyond 2 GiB."""

PORTION = 1 << 16
"""Objects looked at in the order in which they lie; so many offsets are in memory at a time."""

WINDOW_BYTES = 1 << 16
"""How much of a pack is read at a time. It is not mapped: what is mapped counts as memory, up to the whole pack."""

HEADER_BYTES = 16
"""The longest header of an object: 4 bits of its size, and the rest of 64 in groups of seven."""


def check_all(folder: Path, limits: PushLimits) -> None:
    """Take the packs in a folder, as `check` does. Raises PushLimitError."""
    for pack in folder.glob("*.pack"):
        check(pack, limits)


def check(pack: Path, limits: PushLimits) -> None:
    """Take a pack whose objects are not too large, and do not inflate to too much. Raises PushLimitError.

    Its index lies beside it, version 2. Deltas count as what they are, not as what they make.
    """
    inflated = 0
    with pack.open("rb", buffering=0) as file:
        for offsets in _offsets(pack.with_suffix(".idx")):
            for kind, size in _headers(file.fileno(), offsets):
                inflated += size
                if kind not in (_OFFSET_DELTA, _REFERENCE_DELTA):
                    limits.check_object(size)
        limits.check_inflation(inflated, os.fstat(file.fileno()).st_size)


def _headers(pack: int, offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Yield type and size of the objects at these places, which rise."""
    data, begin, end = b"", 0, 0
    for offset in offsets:
        if offset + HEADER_BYTES > end:
            data, begin = os.pread(pack, WINDOW_BYTES, offset), offset
            end = begin + len(data)
        place = offset - begin
        byte = data[place]
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 128:
            place += 1
            byte = data[place]
            size |= (byte & 127) << shift
            shift += 7
        yield kind, size


def _offsets(index: Path) -> Iterator[list[int]]:
    """Yield where the objects of a pack begin, portion by portion, each sorted (gitformat-pack(5), index version 2)."""
    with index.open("rb") as file:
        file.seek(_FANOUT + 255 * 4)
        (count,) = struct.unpack(">I", file.read(4))
        start = _FANOUT + 256 * 4 + count * _ENTRY_BYTES
        for first in range(0, count, PORTION):
            file.seek(start + first * 4)
            places = array("I", file.read(min(PORTION, count - first) * 4))
            if sys.byteorder == "little":
                places.byteswap()
            yield sorted(place if place < _FAR else _far(file, start + count * 4, place - _FAR) for place in places)


def _far(index: IO[bytes], table: int, number: int) -> int:
    index.seek(table + number * 8)
    return int.from_bytes(index.read(8))
