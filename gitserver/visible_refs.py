"""A repository's refs, read in one go, and as its users see them: without those that belong to the server."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from dulwich.objects import ObjectID
from dulwich.refs import DiskRefsContainer, Ref, check_ref_format

from hooks.pre_receive import RESERVED

_RESERVED = RESERVED.encode()

_AFTER_RESERVED = _RESERVED[:-1] + bytes([_RESERVED[-1] + 1])
"""The first name that sorts after all that belong to the server."""

_OID = re.compile(rb"[0-9a-f]{40}")
_OID_DIGITS = 40
_SYMBOLIC = re.compile(rb"ref: (refs/[^\n]+)")

FILE_BYTES = 4096
"""How much of a ref's file is read: an object id, or the name of another ref."""


class VisibleRefs(DiskRefsContainer):
    """Refs on disk, the server's own left out of every listing."""

    def allkeys(self) -> set[Ref]:
        """Return the names of all refs that a client may learn of."""
        return {name for name in super().allkeys() if not name.startswith(_RESERVED)}


def read_refs(repository: Path) -> dict[Ref, ObjectID]:
    """Return all refs of a bare repository but HEAD (gitrepository-layout(5)), those that hold no object id left out.

    Loose ones are read before the packed ones: a ref that is being packed meanwhile is then in one of the two.
    """
    loose = dict(_loose(repository, "refs"))
    # Sliced and not matched: there may be many thousands. Comments, and what tags were peeled to, begin otherwise.
    packed = _packed(repository).split(b"\n")
    refs = cast(
        dict[Ref, ObjectID],
        {
            line[_OID_DIGITS + 1 :]: line[:_OID_DIGITS]
            for line in packed
            if line[_OID_DIGITS : _OID_DIGITS + 6] == b" refs/"
        },
    )
    for name, content in loose.items():
        if match := _OID.match(content):
            refs[name] = ObjectID(match[0])
    for name, content in loose.items():
        if (match := _SYMBOLIC.match(content)) and Ref(match[1]) in refs:
            refs[name] = refs[Ref(match[1])]
    return refs


def held(repository: Path, ref: Ref) -> ObjectID | None:
    """Return what one ref holds, or None if there is no such ref."""
    try:
        content = _read(repository / os.fsdecode(ref))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        content = b""
    if match := _OID.match(content):
        return ObjectID(match[0])
    packed = _packed(repository)
    # A name follows one id and a space, and begins with none, so it is found without looking at each line by itself.
    end = packed.find(b" " + ref + b"\n")
    match = _OID.fullmatch(packed, end - _OID_DIGITS, end) if end >= _OID_DIGITS else None
    return ObjectID(match[0]) if match else None


def pushable(refs: Mapping[Ref, ObjectID]) -> list[tuple[Ref, ObjectID]]:
    """Return those refs that receive-pack advertises, by name."""
    names = sorted(refs)
    del names[bisect_left(names, _RESERVED) : bisect_left(names, _AFTER_RESERVED)]
    return [(name, refs[name]) for name in names]


def _loose(repository: Path, folder: str) -> Iterator[tuple[Ref, bytes]]:
    try:
        with os.scandir(repository / folder) as entries:
            found = list(entries)
    except FileNotFoundError:
        # A deletion tidies its folder up.
        return
    for entry in found:
        name = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _loose(repository, name)
        elif check_ref_format(Ref(os.fsencode(name))):
            # Packed or deleted since it was listed.
            try:
                yield Ref(os.fsencode(name)), _read(repository / name)
            except FileNotFoundError:
                continue


def _read(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return file.read(FILE_BYTES)


def _packed(repository: Path) -> bytes:
    try:
        return (repository / "packed-refs").read_bytes()
    except FileNotFoundError:
        return b""
