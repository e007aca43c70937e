"""A pack of any size as it comes, in pieces: written to a file, every object of it measured and none of them held.

It is what a server without C git begins with (gitformat-pack(5)); what deltas make of each other is told afterwards, by
`delta_chains`. So a size is known, and refused, before anything of that size is in memory.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from gitserver.limits import PushLimits
from gitserver.small_pack import CHECKSUM_BYTES, KINDS, DamagedPackError, target_size

PIECE_BYTES = 1 << 16
"""How much is inflated at a time."""

FIRST_BYTES = 1 << 10
"""How much of a pack is handed to zlib at first, for each object."""

MAX_DELTA_HEADER_BYTES = 20
"""What a delta's two sizes take at most, of 64 bits in groups of seven."""

BLOB, OFFSET_DELTA, REFERENCE_DELTA = 3, 6, 7
"""Types of a pack's entries beside commits, trees and tags."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a pack: a whole object, whose id is known, or a delta against what `base` says."""

    offset: int
    crc32: int
    kind: int
    size: int
    """Bytes of what it inflates to."""
    oid: bytes | None = None
    base: int | bytes | None = None
    """An offset in the pack, or an id, 20 bytes as all ids here."""


class PackStream:
    """Reads a pack from `receive`, which returns some bytes and none at the end, into `file`; `first` has come already.

    Objects of which more than `held_bytes` would have to be in memory at once are refused, with the limits. Its methods
    raise DamagedPackError, PushLimitError, and what `receive` raises.
    """

    def __init__(
        self, receive: Callable[[], bytes], first: bytes, file: IO[bytes], limits: PushLimits, held_bytes: int
    ) -> None:
        self._receive = receive
        self._file = file
        self._limits = limits
        self._held_bytes = held_bytes
        self._buffer = first
        self._at = self._done = 0
        """Up to where the buffer has been understood, and up to where it has been written and counted."""
        self._position = self._inflated = 0
        self._checksum = hashlib.sha1(usedforsecurity=False)
        self._crc32 = 0

    def entries(self) -> Iterator[Entry]:
        """Yield every entry of the pack, whose header has been looked at."""
        count = int.from_bytes(self._take(12)[8:])
        for _ in range(count):
            yield self._entry()
        self._count()
        digest = self._checksum.digest()
        if self._take(CHECKSUM_BYTES) != digest:
            raise DamagedPackError("the pack's checksum is wrong")
        self._count()
        if self._at < len(self._buffer):
            raise DamagedPackError("the pack holds more than it says")
        self._limits.check_inflation(self._inflated, self._position)

    def _entry(self) -> Entry:
        self._count()
        offset, self._crc32 = self._position, 0
        byte = self._byte()
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 128:
            byte = self._byte()
            size |= (byte & 127) << shift
            shift += 7
            if shift > 64:
                raise DamagedPackError("the pack has an object of impossible size")
        if kind in KINDS:
            self._limits.check_object(size)
            if kind != BLOB:
                self._check_held(size)
            oid = hashlib.sha1(b"%s %d\0" % (KINDS[kind], size), usedforsecurity=False)
            for piece in self._inflate(size):
                oid.update(piece)
            self._count()
            return Entry(offset, self._crc32, kind, size, oid=oid.digest())
        base: int | bytes
        if kind == OFFSET_DELTA:
            base = offset - self._distance()
        elif kind == REFERENCE_DELTA:
            base = self._take(20)
        else:
            raise DamagedPackError(f"the pack has an object of unknown type {kind}")
        self._check_held(size)
        begin = b""
        for piece in self._inflate(size):
            begin = (begin + piece)[:MAX_DELTA_HEADER_BYTES] if len(begin) < MAX_DELTA_HEADER_BYTES else begin
        made = target_size(begin)
        self._limits.check_object(made)
        self._check_held(made)
        self._count()
        return Entry(offset, self._crc32, kind, size, base=base)

    def _check_held(self, size: int) -> None:
        if size > self._held_bytes:
            raise self._limits.no_memory()

    def _distance(self) -> int:
        byte = self._byte()
        distance = byte & 127
        while byte & 128:
            byte = self._byte()
            distance = (distance + 1) << 7 | byte & 127
            if distance > self._position + self._at:
                raise DamagedPackError("the pack has a delta whose base is out of bounds")
        return distance

    def _inflate(self, size: int) -> Iterator[bytes]:
        """Yield the content of a zlib stream that has to be `size` bytes long, in pieces."""
        unpacker = zlib.decompressobj()
        left = size
        # Most objects are small, and what is handed over beyond their ends is copied back.
        portion = FIRST_BYTES
        while not unpacker.eof:
            data = unpacker.unconsumed_tail
            if not data:
                self._need()
                data = self._buffer[self._at : self._at + portion]
                self._at += len(data)
                portion = PIECE_BYTES
            try:
                piece = unpacker.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise DamagedPackError("an object of the pack cannot be inflated") from error
            left -= len(piece)
            self._inflated += len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise DamagedPackError("an object of the pack has not the size that it says")
        self._at -= len(unpacker.unused_data)
        # How much is too much for the pack is known at its end, how much is too much for anybody now.
        self._limits.check_inflation(self._inflated, self._limits.pack_bytes)

    def _byte(self) -> int:
        self._need()
        self._at += 1
        return self._buffer[self._at - 1]

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            self._need()
            more = self._buffer[self._at : self._at + count - len(data)]
            self._at += len(more)
            data += more
        return data

    def _need(self) -> None:
        """Have at least one byte that has not been understood yet."""
        if self._at == len(self._buffer):
            self._count()
            self._buffer = self._receive()
            self._at = self._done = 0
            if not self._buffer:
                raise DamagedPackError("early EOF")

    def _count(self) -> None:
        """Write down what has been understood, and count it."""
        part = memoryview(self._buffer)[self._done : self._at]
        self._file.write(part)
        self._checksum.update(part)
        self._crc32 = zlib.crc32(part, self._crc32)
        self._position += len(part)
        self._done = self._at
        self._limits.check_pack(self._position)
