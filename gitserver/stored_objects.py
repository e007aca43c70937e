"""A repository's own objects, read within a bound (gitrepository-layout(5), gitformat-pack(5)).

Git's own readers, dulwich's among them, take an object into memory whatever its size. Here a size is known before
anything is inflated, so that a client cannot make the server load a file of gigabytes by naming it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dulwich.errors import ApplyDeltaError
from dulwich.object_format import SHA1
from dulwich.objects import ObjectID
from dulwich.pack import PackIndex, apply_delta, load_pack_index

from gitserver.small_pack import KINDS, GitObject

READ_BYTES = 4096
"""How much of a pack is read at first; most objects that are looked at are trees and commits."""

MAX_CHAIN = 4096
"""Most deltas on top of each other, as with Git (git-config(1), `pack.depth`)."""

_OFFSET_DELTA, _REFERENCE_DELTA = 6, 7


@dataclass
class _Pack:
    """One pack with its index."""

    index: PackIndex
    descriptor: int


class StoredObjects:
    """Objects that are loose or packed in one folder; packs are opened when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packs: list[_Pack] | None = None

    def __contains__(self, oid: bytes) -> bool:
        return self._loose(oid).exists() or self._packed(oid) is not None

    def read(self, oid: bytes, limit: int) -> GitObject | None:
        """Return an object, or None if it is not there, larger than `limit` bytes, or damaged."""
        with suppress(zlib.error, ApplyDeltaError, IndexError, AssertionError, KeyError):
            try:
                return _read_loose(self._loose(oid), limit)
            except FileNotFoundError:
                found = self._packed(oid)
                return _read_packed(*found, limit) if found else None
        return None

    def close(self) -> None:
        """Close the packs."""
        for pack in self._packs or []:
            os.close(pack.descriptor)
            pack.index.close()
        self._packs = None

    def _loose(self, oid: bytes) -> Path:
        name = oid.decode("ascii")
        return self._folder / name[:2] / name[2:]

    def _packed(self, oid: bytes) -> tuple[_Pack, int] | None:
        if self._packs is None:
            self._packs = list(self._open_packs())
        for pack in self._packs:
            with suppress(KeyError):
                return pack, pack.index.object_offset(ObjectID(oid))
        return None

    def _open_packs(self) -> Iterator[_Pack]:
        for path in (self._folder / "pack").glob("pack-*.idx"):
            # A repacking may remove a pack between being listed and being opened; its objects are in the new one.
            with suppress(FileNotFoundError):
                descriptor = os.open(path.with_suffix(".pack"), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    yield _Pack(load_pack_index(str(path), SHA1), descriptor)
                except BaseException:
                    os.close(descriptor)
                    raise


@contextmanager
def stored_objects(repository: Path) -> Iterator[StoredObjects]:
    """Open the objects of a bare repository."""
    opened = StoredObjects(repository / "objects")
    try:
        yield opened
    finally:
        opened.close()


def _read_loose(path: Path, limit: int) -> GitObject | None:
    with path.open("rb") as file:
        unpacker = zlib.decompressobj()
        # The header is a word and a number; content and header together are bounded, whatever the file inflates to.
        data = unpacker.decompress(file.read(READ_BYTES), READ_BYTES)
        header, _, content = data.partition(b"\0")
        kind, _, size = header.partition(b" ")
        if not size.isdigit() or int(size) > limit:
            return None
        parts = [content]
        left = int(size) - len(content)
        while left > 0:
            packed = unpacker.unconsumed_tail or file.read(1 << 16)
            piece = unpacker.decompress(packed, left)
            if not piece and not packed:
                return None
            parts.append(piece)
            left -= len(piece)
    return GitObject(kind, b"".join(parts))


def _read_packed(pack: _Pack, offset: int, limit: int) -> GitObject | None:
    """Follow a chain of deltas down to its base, and apply them on the way back."""
    deltas: list[bytes] = []
    held = 0
    while len(deltas) <= MAX_CHAIN:
        head = os.pread(pack.descriptor, READ_BYTES, offset)
        kind, size, position = _entry_header(head)
        held += size
        # Deltas are smaller than what they make, so that a bound over all of them leaves every usual object out of it.
        if held > 2 * limit:
            return None
        base: int | None = None
        if kind == _OFFSET_DELTA:
            distance, position = _distance(head, position)
            base = offset - distance
        elif kind == _REFERENCE_DELTA:
            with suppress(KeyError):
                base = pack.index.object_offset(ObjectID(head[position : position + 20].hex().encode()))
            if base is None:
                return None
            position += 20
        content = _inflate(pack.descriptor, offset + position, head[position:], size)
        if content is None:
            return None
        if base is None:
            for delta in reversed(deltas):
                content = b"".join(apply_delta(content, delta))
                if len(content) > limit:
                    return None
            return GitObject(KINDS[kind], content) if len(content) <= limit else None
        deltas.append(content)
        offset = base
    return None


def _entry_header(head: bytes) -> tuple[int, int, int]:
    kind, size, shift, position = head[0] >> 4 & 7, head[0] & 15, 4, 1
    while head[position - 1] & 128:
        size |= (head[position] & 127) << shift
        shift += 7
        position += 1
    return kind, size, position


def _distance(head: bytes, position: int) -> tuple[int, int]:
    distance = head[position] & 127
    while head[position] & 128:
        position += 1
        distance = (distance + 1) << 7 | head[position] & 127
    return distance, position + 1


def _inflate(descriptor: int, offset: int, first: bytes, size: int) -> bytes | None:
    unpacker = zlib.decompressobj()
    parts = []
    left = size
    packed = first
    while left > 0:
        offset += len(packed) if not unpacker.unconsumed_tail else 0
        piece = unpacker.decompress(unpacker.unconsumed_tail or packed, left)
        parts.append(piece)
        left -= len(piece)
        if left > 0 and not unpacker.unconsumed_tail:
            packed = os.pread(descriptor, 1 << 16, offset)
            if not packed:
                return None
    return b"".join(parts)
