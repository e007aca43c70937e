"""What the packs of a push inflate to, read from the headers of their objects (gitformat-pack(5)).

Git streams large objects and so is not harmed by a pack that inflates to a thousand times its size; those who clone,
check out or build from it are.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from gitserver.limits import PushLimits

_OFFSET_DELTA, _REFERENCE_DELTA = 6, 7

_FANOUT = 8
"""Where the index's fan-out table begins, behind signature and version."""

_ENTRY_BYTES = 20 + 4
"""What precedes the offsets in the index for each object: its id and its checksum."""


def check_all(folder: Path, limits: PushLimits) -> None:
    """Take the packs in a folder, as `check` does. Raises PushLimitError."""
    for pack in folder.glob("*.pack"):
        check(pack, limits)


def check(pack: Path, limits: PushLimits) -> None:
    """Take a pack whose objects are not too large, and do not inflate to too much. Raises PushLimitError.

    Its index lies beside it, version 2. Deltas count as what they are, not as what they make.
    """
    offsets = _offsets(pack.with_suffix(".idx").read_bytes())
    inflated = 0
    with pack.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for offset in offsets:
            place = offset
            byte = data[place]
            kind, size, shift = byte >> 4 & 7, byte & 15, 4
            while byte & 128:
                place += 1
                byte = data[place]
                size |= (byte & 127) << shift
                shift += 7
            inflated += size
            if kind not in (_OFFSET_DELTA, _REFERENCE_DELTA):
                limits.check_object(size)
        limits.check_inflation(inflated, len(data))


def _offsets(index: bytes) -> list[int]:
    """Return where the objects of a pack begin (gitformat-pack(5), "Version 2 pack-*.idx files")."""
    (count,) = struct.unpack_from(">I", index, _FANOUT + 255 * 4)
    start = _FANOUT + 256 * 4 + count * _ENTRY_BYTES
    far = start + count * 4
    # The highest bit says that the rest is a place in the table of offsets beyond 2 GiB.
    return [
        place if place < 1 << 31 else struct.unpack_from(">Q", index, far + (place & 0x7FFFFFFF) * 8)[0]
        for place in struct.unpack_from(f">{count}I", index, start)
    ]
