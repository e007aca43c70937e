"""A small pack, parsed in memory (gitformat-pack(5)): most pushes are a few objects, and a program starts slowly.

All that is read is bounded. A pack that turns out to be larger is no error: what has come of it so far goes on to
git-index-pack, which keeps little in memory.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta

from store.errors import SlipwayError

MAX_OBJECTS = 100
"""Most objects of a small pack, as with Git's own `receive.unpackLimit`."""

MAX_PACK_BYTES = 4 << 20
"""Most bytes of a small pack."""

MAX_INFLATED_BYTES = 8 << 20
"""Most bytes of all its objects together, deltas applied, with the bases that they are applied to."""

COUNT = slice(8, 12)
"""Where a pack's header says how many objects follow."""

CHECKSUM_BYTES = 20
"""The SHA-1 at the end of a pack."""

READ_BYTES = 1 << 16
"""How much is asked for at a time."""

KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
"""Object types by their number in a pack."""

_OFFSET_DELTA, _REFERENCE_DELTA = 6, 7


class DamagedPackError(SlipwayError):
    """A pack is not what the format says."""


class NotSmallError(Exception):
    """A pack is larger than is kept in memory; `received` is what has come of it."""

    def __init__(self, received: bytes) -> None:
        super().__init__()
        self.received = received


@dataclass(frozen=True)
class GitObject:
    """An object's type, in Git's word, and its content."""

    kind: bytes
    content: bytes

    def oid(self) -> bytes:
        """Return the object's id, 40 hexadecimal digits."""
        digest = hashlib.sha1(b"%s %d\0" % (self.kind, len(self.content)), usedforsecurity=False)
        digest.update(self.content)
        return digest.hexdigest().encode()


Base = Callable[[bytes, int], GitObject | None]
"""Reads an object that is in the repository already, by its id, or returns None where it is not there or is larger than
so many bytes."""


@dataclass
class SmallPack:
    """All objects of a pack by their ids, and the pack itself."""

    objects: dict[bytes, GitObject]
    raw: bytes


@dataclass
class _Entry:
    """One entry of the pack: content, or a delta with the base that it names."""

    kind: int
    data: bytes
    base: int | bytes | None = None


def read(receive: Callable[[int], bytes], header: bytes, base: Base) -> SmallPack:
    """Read a pack whose first 12 bytes are `header` and whose others come from `receive`.

    `base` finds what a thin pack's deltas are made against. Raises DamagedPackError, NotSmallError, and what `receive`
    raises.
    """
    reader = _Reader(receive, header)
    if reader.count > MAX_OBJECTS:
        raise NotSmallError(header)
    entries = {}
    for _ in range(reader.count):
        offset = reader.position
        entries[offset] = reader.entry()
    reader.end()
    raw = bytes(reader.buffer)
    return SmallPack(_Resolver(entries, base, raw).objects(), raw)


@dataclass
class _Reader:
    """What has come of a pack, and how far it has been understood."""

    receive: Callable[[int], bytes]
    header: bytes
    buffer: bytearray = field(init=False)
    position: int = field(init=False)
    inflated: int = 0

    def __post_init__(self) -> None:
        self.buffer = bytearray(self.header)
        self.position = len(self.header)
        self.count = int.from_bytes(self.header[COUNT])

    def entry(self) -> _Entry:
        """Read the next object."""
        start = self.position
        byte = self._byte()
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 128:
            byte = self._byte()
            size |= (byte & 127) << shift
            shift += 7
            if shift > 64:
                raise DamagedPackError("the pack has an object of impossible size")
        base: int | bytes | None = None
        if kind == _OFFSET_DELTA:
            byte = self._byte()
            distance = byte & 127
            while byte & 128:
                byte = self._byte()
                distance = (distance + 1) << 7 | byte & 127
                if distance > MAX_PACK_BYTES:
                    raise DamagedPackError("the pack has a delta whose base is out of bounds")
            base = start - distance
        elif kind == _REFERENCE_DELTA:
            self._need(20)
            base = bytes(self.buffer[self.position : self.position + 20]).hex().encode()
            self.position += 20
        elif kind not in KINDS:
            raise DamagedPackError(f"the pack has an object of unknown type {kind}")
        return _Entry(kind, self._inflate(size), base)

    def end(self) -> None:
        """Read the checksum, and look that nothing else was sent."""
        self._need(CHECKSUM_BYTES)
        digest = hashlib.sha1(memoryview(self.buffer)[: self.position], usedforsecurity=False).digest()
        if digest != self.buffer[self.position : self.position + CHECKSUM_BYTES]:
            raise DamagedPackError("the pack's checksum is wrong")
        if len(self.buffer) != self.position + CHECKSUM_BYTES:
            raise DamagedPackError("the pack is followed by something else")

    def _inflate(self, size: int) -> bytes:
        self.inflated += size
        if self.inflated > MAX_INFLATED_BYTES:
            raise NotSmallError(bytes(self.buffer))
        unpacker = zlib.decompressobj()
        content = bytearray()
        try:
            while not unpacker.eof:
                self._need(1)
                piece = bytes(self.buffer[self.position :])
                # One byte more than there should be, so that too much is noticed and yet not inflated.
                content += unpacker.decompress(piece, size + 1 - len(content))
                self.position += len(piece) - len(unpacker.unused_data) - len(unpacker.unconsumed_tail)
                if len(content) > size:
                    break
        except zlib.error as error:
            raise DamagedPackError("an object of the pack cannot be inflated") from error
        if len(content) != size:
            raise DamagedPackError("an object of the pack has not the size that it says")
        return bytes(content)

    def _byte(self) -> int:
        self._need(1)
        byte = self.buffer[self.position]
        self.position += 1
        return byte

    def _need(self, count: int) -> None:
        while len(self.buffer) < self.position + count:
            if len(self.buffer) >= MAX_PACK_BYTES:
                raise NotSmallError(bytes(self.buffer))
            data = self.receive(READ_BYTES)
            if not data:
                raise DamagedPackError("early EOF")
            self.buffer += data


class _Resolver:
    """Applies deltas, whatever order their bases come in."""

    def __init__(self, entries: dict[int, _Entry], base: Base, raw: bytes) -> None:
        self._entries = entries
        self._base = base
        self._raw = raw
        self._left = MAX_INFLATED_BYTES
        self._by_offset: dict[int, GitObject] = {}
        self._by_id: dict[bytes, GitObject] = {}

    def objects(self) -> dict[bytes, GitObject]:
        """Return every object of the pack by its id."""
        deltas = []
        for offset, entry in self._entries.items():
            if entry.base is None:
                self._found(offset, GitObject(KINDS[entry.kind], entry.data))
            else:
                deltas.append(offset)
        thin: dict[bytes, GitObject] = {}
        while deltas:
            waiting = [offset for offset in deltas if not self._resolve(offset, thin)]
            if len(waiting) == len(deltas) and not self._fetch(waiting, thin):
                # Nowhere, too large, or in a circle: Git finds out which.
                raise NotSmallError(self._raw)
            deltas = waiting
        return self._by_id

    def _resolve(self, offset: int, thin: dict[bytes, GitObject]) -> bool:
        entry = self._entries[offset]
        if isinstance(entry.base, bytes):
            base = self._by_id.get(entry.base) or thin.get(entry.base)
        else:
            base = self._by_offset.get(entry.base or 0)
            if entry.base not in self._entries:
                raise DamagedPackError("the pack has a delta whose base is out of bounds")
        if base is None:
            return False
        self._take(target_size(entry.data))
        try:
            content = b"".join(apply_delta(base.content, entry.data))
        except (ApplyDeltaError, IndexError, AssertionError, ValueError) as error:
            raise DamagedPackError("the pack has a delta that does not fit its base") from error
        self._found(offset, GitObject(base.kind, content))
        return True

    def _fetch(self, waiting: list[int], thin: dict[bytes, GitObject]) -> bool:
        """Get a base from the repository, and tell whether there was one."""
        for offset in waiting:
            name = self._entries[offset].base
            if isinstance(name, bytes) and name not in thin and (found := self._base(name, self._left)):
                self._take(len(found.content))
                thin[name] = found
                return True
        return False

    def _found(self, offset: int, item: GitObject) -> None:
        self._by_offset[offset] = item
        self._by_id[item.oid()] = item

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise NotSmallError(self._raw)


def target_size(delta: bytes) -> int:
    """Return the size of what a delta makes (gitformat-pack(5), "Deltified representation")."""
    position = 0
    size = 0
    for _ in range(2):
        size, shift = 0, 0
        while True:
            if position >= len(delta) or shift > 64:
                raise DamagedPackError("the pack has a delta that is cut off")
            byte = delta[position]
            position += 1
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
    return size
