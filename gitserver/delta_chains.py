"""What the deltas of a pack make, each chain followed once, and the pack completed and indexed (gitformat-pack(5)).

The second half of taking a pack without C git; `pack_stream` is the first. Every object that is put together, or that
is no file, is handed to a check before the pack has an index, and so before anybody can see it.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from dulwich.errors import ApplyDeltaError
from dulwich.object_format import SHA1
from dulwich.pack import apply_delta, extend_pack, write_pack_index

from gitserver.limits import PushLimits
from gitserver.pack_stream import BLOB, Entry
from gitserver.small_pack import KINDS, DamagedPackError, GitObject

READ_BYTES = 1 << 16

MAX_ENTRIES = 500_000
"""Most entries of a pack. Of each, half a KiB is kept in memory until the index is written."""

MODE = 0o444
"""Of packs and their indices, which never change."""

Check = Callable[[GitObject], None]
"""Raises for an object that must not be taken."""

StoredBase = Callable[[bytes], GitObject | None]
"""Reads an object of the repository's own by its id, 20 bytes; None where it is not there or is too large."""


@dataclass
class DeltaChains:
    """The entries of a pack that lies in `file`, and what becomes of them.

    `held_bytes` bounds one object, and twice as much those that wait while what is built on them is put together.
    """

    file: IO[bytes]
    stored: StoredBase
    check: Check
    limits: PushLimits
    held_bytes: int
    _entries: dict[int, Entry] = field(default_factory=dict)
    _by_offset: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    _by_oid: defaultdict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    _made: list[tuple[bytes, int, int]] = field(default_factory=list)
    _bases: dict[bytes, GitObject] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take an entry, in the order of the pack. Raises DamagedPackError."""
        if isinstance(entry.base, int):
            if entry.base not in self._entries:
                raise DamagedPackError("the pack has a delta whose base is out of bounds")
            self._by_offset[entry.base].append(entry.offset)
        elif entry.base is not None:
            self._by_oid[entry.base].append(entry.offset)
        self._entries[entry.offset] = entry

    def resolve(self) -> None:
        """Put every object together, and check it. Raises DamagedPackError, PushLimitError, and what `check` raises."""
        for entry in self._entries.values():
            if entry.oid is not None:
                self._whole(entry, entry.oid)
        # What is left is built on objects of the repository; each may in turn be what others wait for.
        for oid in list(self._by_oid):
            if oid in self._by_oid and (base := self.stored(oid)) is not None:
                self._bases[oid] = base
                if sum(len(item.content) for item in self._bases.values()) > 2 * self.held_bytes:
                    raise self.limits.no_memory()
                self._follow(self._by_oid.pop(oid), base)
        if len(self._made) != len(self._entries):
            raise DamagedPackError("the pack has deltas whose bases are not there, or too large, or each other")

    def finish(self, draft: Path) -> None:
        """Complete the pack with the bases that it lacks, index it, and give both their names; `draft` is its file."""
        bases = {oid: (_number(item.kind), item.content) for oid, item in self._bases.items()}
        digest, added = extend_pack(self.file, bases.keys(), get_raw=lambda oid: bases[oid], object_format=SHA1)  # type: ignore[arg-type]  # ids are bytes here
        self.file.flush()
        os.fsync(self.file.fileno())
        name = draft.parent / f"pack-{digest.hex()}"
        with name.with_suffix(".idx").open("xb") as index:
            write_pack_index(index, sorted([*self._made, *added]), digest, version=2)
            index.flush()
            os.fsync(index.fileno())
        for file in (self.file, index):
            Path(file.name).chmod(MODE)
        draft.rename(name.with_suffix(".pack"))

    def _whole(self, entry: Entry, oid: bytes) -> None:
        self._made.append((oid, entry.offset, entry.crc32))
        waiting = self._waiting(entry.offset, oid)
        if entry.kind == BLOB and not waiting:
            return
        if entry.size > self.held_bytes:
            raise self.limits.no_memory()
        item = GitObject(KINDS[entry.kind], self._content(entry))
        self.check(item)
        self._follow(waiting, item)

    def _follow(self, offsets: Iterable[int], base: GitObject) -> None:
        """Put together what is built on an object, and what is built on that, the deepest first."""
        stack = [(list(offsets), base)]
        held = 0
        while stack:
            offsets, base = stack[-1]
            if not offsets:
                stack.pop()
                held -= len(base.content)
                continue
            entry = self._entries[offsets.pop()]
            try:
                content = b"".join(apply_delta(base.content, self._content(entry)))
            except (ApplyDeltaError, IndexError, AssertionError, ValueError) as error:
                raise DamagedPackError("the pack has a delta that does not fit its base") from error
            item = GitObject(base.kind, content)
            self.check(item)
            oid = bytes.fromhex(item.oid().decode())
            self._made.append((oid, entry.offset, entry.crc32))
            if waiting := self._waiting(entry.offset, oid):
                held += len(content)
                if held > 2 * self.held_bytes:
                    raise self.limits.no_memory()
                stack.append((waiting, item))

    def _waiting(self, offset: int, oid: bytes) -> list[int]:
        return self._by_offset.pop(offset, []) + self._by_oid.pop(oid, [])

    def _content(self, entry: Entry) -> bytes:
        """Inflate an entry again; that it can be, and to how much, was seen when it came."""
        self.file.seek(entry.offset)
        unpacker = zlib.decompressobj()
        parts = []
        data = self.file.read(min(entry.size + READ_BYTES // 16, READ_BYTES))
        position = 0
        while data[position] & 128:
            position += 1
        position += 1
        if isinstance(entry.base, bytes):
            position += 20
        elif entry.base is not None:
            while data[position] & 128:
                position += 1
            position += 1
        data = data[position:]
        while True:
            parts.append(unpacker.decompress(data))
            if unpacker.eof:
                return b"".join(parts)
            data = self.file.read(READ_BYTES)


def _number(kind: bytes) -> int:
    return next(number for number, word in KINDS.items() if word == kind)
