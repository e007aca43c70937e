"""Whether a few new commits lead to nothing but each other and what refs hold, told from the objects in memory.

The answer is yes or perhaps: history of an unusual shape is left to the full check of connectivity. An old tree beside
a new one at the same path proves most of the new one, for what a ref holds is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gitserver.plain_objects import tree_entries
from gitserver.small_pack import GitObject
from gitserver.stored_objects import StoredObjects

MAX_OLD_BYTES = 1 << 20
"""Largest object of the repository's own that is read: a tree of some 20,000 entries."""

MAX_OLD_OBJECTS = 1000
"""Most objects of the repository's own that are read; beyond, the full check is as fast."""

_FOLDER, _SUBMODULE = b"40000", b"160000"


def leads_to_held(tip: bytes, new: Mapping[bytes, GitObject], held: Collection[bytes], stored: StoredObjects) -> bool:
    """Tell whether commit `tip` is proved to be complete; False says nothing.

    `new` are the objects of a push, `held` the ids that refs hold, and `stored` the repository's objects.
    """
    try:
        return _Proof(new, held, stored).commit(tip)
    except ValueError:
        # A stored tree that is malformed has come here by another way, and is for Git to judge.
        return False


class _Proof:
    def __init__(self, new: Mapping[bytes, GitObject], held: Collection[bytes], stored: StoredObjects) -> None:
        self._new = new
        self._held = held
        self._stored = stored
        self._proved: set[bytes] = set()
        self._left = MAX_OLD_OBJECTS

    def commit(self, tip: bytes) -> bool:
        waiting = [tip]
        while waiting:
            oid = waiting.pop()
            if oid in self._proved:
                continue
            self._proved.add(oid)
            item = self._new.get(oid)
            if item is None:
                if oid not in self._held or self._old(oid, b"commit") is None:
                    return False
                continue
            if item.kind != b"commit":
                return False
            tree, parents = _links(item.content)
            before = {self._tree_of(parent) for parent in parents} - {None}
            if not self._tree(tree, [old for old in before if old is not None]):
                return False
            waiting += parents
        return True

    def _tree(self, oid: bytes, before: Collection[bytes]) -> bool:
        """Prove a tree, at whose place the trees `before` were, which are complete or are being proved themselves."""
        if oid in self._proved or oid in before:
            return True
        item = self._new.get(oid)
        if item is None or item.kind != b"tree":
            return False
        known: set[tuple[bool, bytes]] = set()
        folders: dict[bytes, list[bytes]] = {}
        for old in before:
            content = self._old(old, b"tree")
            for mode, name, entry in tree_entries(content) if content is not None else []:
                known.add((mode == _FOLDER, entry))
                if mode == _FOLDER:
                    folders.setdefault(name, []).append(entry.hex().encode())
        for mode, name, entry in tree_entries(item.content):
            if mode == _SUBMODULE or (mode == _FOLDER, entry) in known:
                continue
            entry_id = entry.hex().encode()
            if mode == _FOLDER:
                if not self._tree(entry_id, folders.get(name, [])):
                    return False
            elif (blob := self._new.get(entry_id)) is None or blob.kind != b"blob":
                return False
        self._proved.add(oid)
        return True

    def _tree_of(self, commit: bytes) -> bytes | None:
        content = self._old(commit, b"commit")
        return None if content is None else _links(content)[0]

    def _old(self, oid: bytes, kind: bytes) -> bytes | None:
        """Return an object of this kind that is new itself or in the repository, while there is still patience."""
        if (item := self._new.get(oid)) is None:
            self._left -= 1
            item = self._stored.read(oid, MAX_OLD_BYTES) if self._left >= 0 else None
        return None if item is None or item.kind != kind else item.content


def _links(commit: bytes) -> tuple[bytes, list[bytes]]:
    """Return a commit's tree and parents; raises ValueError where there is no tree."""
    header = commit.partition(b"\n\n")[0].split(b"\n")
    if not header[0].startswith(b"tree "):
        raise ValueError("a commit without a tree")
    parents = []
    for line in header[1:]:
        if not line.startswith(b"parent "):
            break
        parents.append(line[7:])
    return header[0][5:], parents
