"""Moving refs: each compared before it is swapped, under the lock files that Git's own programs respect.

A transaction first takes every lock and looks whether each update can be done, and only then does them all
(gitrepository-layout(5) for the files; refs/files-backend.c for the order).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol, cast

from dulwich.file import FileLocked, GitFile
from dulwich.objects import ObjectID
from dulwich.refs import DiskRefsContainer, Ref

from gitserver.visible_refs import held, read_refs
from hooks import ref_locks
from hooks.pre_receive import ZERO, RefUpdate
from store.durable import synchronise

STALE = "it has moved on the server meanwhile; fetch, then push again"
"""Why an update is refused whose `old` is not what the ref holds."""

LOCKED = "another update of it is under way; push again in a moment"
"""Why an update is refused whose lock is taken."""

LOCK_ATTEMPTS = 10
"""How often a lock is tried for whose folder is removed under our feet, by a deletion that tidies up."""


class _Lock(Protocol):
    """A lock file that becomes the ref when it is closed, or disappears when it is aborted."""

    def abort(self) -> None: ...
    def close(self) -> None: ...


def current(repository: Path, ref: str) -> str:
    """Return the object id that a ref holds, 40 zeros if there is no such ref."""
    return (held(repository, Ref(ref.encode())) or ObjectID(ZERO.encode())).decode("ascii")


def apply(repository: Path, updates: Iterable[RefUpdate], *, atomic: bool) -> dict[str, str | None]:
    """Do `updates`, and return for each ref None, or why it was not done.

    Every new object must be there. With `atomic`, all are done or none is.
    """
    updates = list(updates)
    if atomic:
        return _Transaction(repository, updates).run()
    results: dict[str, str | None] = {}
    for update in updates:
        results |= _Transaction(repository, [update]).run()
    return results


class _Transaction:
    """Updates that are done together or not at all."""

    def __init__(self, repository: Path, updates: list[RefUpdate]) -> None:
        self._repository = repository
        self._refs = DiskRefsContainer(str(repository))
        self._updates = updates
        self._locks: dict[str, _Lock] = {}
        self._names: set[str] | None = None
        self._folders: dict[str, str] = {}

    def run(self) -> dict[str, str | None]:
        try:
            refusals = {update.ref: self._prepare(update) for update in self._updates}
            if not any(refusals.values()):
                # Deletions first, as Git does: a name may make room for a folder.
                for update in sorted(self._updates, key=lambda update: update.new != ZERO):
                    refusals[update.ref] = self._commit(update)
                return refusals
        finally:
            for lock in self._locks.values():
                lock.abort()
            self._tidy()
        return {ref: reason or "atomic push failure" for ref, reason in refusals.items()}

    def _prepare(self, update: RefUpdate) -> str | None:
        name = Ref(update.ref.encode())
        try:
            # A ref that exists keeps all such names away itself; whether it does is looked at under its lock.
            if update.new != ZERO and update.old == ZERO and (rival := self._rival(update)):
                return f"'{rival}' exists; a name cannot be a ref and a folder of refs at once"
            lock = self._lock(Path(os.fsdecode(self._refs.refpath(name))))
            self._locks[update.ref] = cast(_Lock, lock)
            if current(self._repository, update.ref) != update.old:
                return STALE
            if update.new != ZERO:
                lock.write(update.new.encode() + b"\n")
        except FileLocked:
            return LOCKED
        except OSError as error:
            return _reason(error)
        return None

    def _commit(self, update: RefUpdate) -> str | None:
        name = Ref(update.ref.encode())
        path = Path(os.fsdecode(self._refs.refpath(name)))
        try:
            if update.new == ZERO:
                # The packed one goes first: the other way round, a crash in between would bring an old value back.
                ref_locks.remove_abandoned(self._repository / "packed-refs")
                self._refs._remove_packed_ref(name)
                path.unlink(missing_ok=True)
            else:
                _remove_empty_folders(path)
                self._locks[update.ref].close()
                synchronise(path.parent)
        except FileLocked:
            return LOCKED
        except OSError as error:
            return _reason(error)
        return None

    def _rival(self, update: RefUpdate) -> str | None:
        """Return a ref that is a folder of this one's name, or has this one's name for its folder."""
        if self._names is None:
            deleted = {other.ref for other in self._updates if other.new == ZERO}
            names = {name.decode("utf-8", "replace") for name in read_refs(self._repository)}
            self._names = (names | {other.ref for other in self._updates}) - deleted
            self._folders = {folder: name for name in self._names for folder in _folders(name)}
        return self._folders.get(update.ref) or next((f for f in _folders(update.ref) if f in self._names), None)

    def _lock(self, path: Path) -> IO[bytes]:
        for _ in range(LOCK_ATTEMPTS):
            # The folder may go at any moment, also between its being in mkdir's way and its being looked at for that.
            with suppress(FileNotFoundError, FileExistsError):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    # Unbuffered: a full disk is told while no ref has moved yet, and leaves nothing that the lock's
                    # removal would have to write first.
                    return GitFile(str(path), "wb", 0)
                except FileLocked:
                    if not ref_locks.remove_abandoned(path):
                        raise
        path.parent.mkdir(parents=True, exist_ok=True)  # says what stands in the way, if anything does
        raise FileNotFoundError(errno.ENOENT, "its folder keeps disappearing")

    def _tidy(self) -> None:
        """Remove folders that a deletion has left empty, for a ref may want their name one day."""
        for update in self._updates:
            parts = update.ref.split("/")
            for end in range(len(parts) - 1, 2, -1):
                with suppress(OSError):
                    Path(os.fsdecode(self._refs.refpath("/".join(parts[:end]).encode()))).rmdir()


def _folders(name: str) -> list[str]:
    """Return the names that may not be refs, since this one has them for folders."""
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def _remove_empty_folders(path: Path) -> None:
    """Make room for a ref where only empty folders of former refs are left."""
    for folder, _, _ in os.walk(path, topdown=False):
        Path(folder).rmdir()


def _reason(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long for the server's file system"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
        return "a name cannot be a ref and a folder of refs at once"
    return f"the server cannot write it ({error.strerror}); tell whoever runs the server"
