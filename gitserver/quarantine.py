"""Where the objects of a push stay until they have been accepted (git-receive-pack(1), "Quarantine Environment").

A quarantine is a folder among the repository's objects, on the same file system, so that accepting is renaming. It is
locked by the process that fills it; the lock dies with its holder, and so a later push can tell an abandoned one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import structlog
from dulwich.object_format import SHA1
from dulwich.object_store import DiskObjectStore
from dulwich.pack import PackIndex, load_pack_index

from gitserver import loose_objects
from gitserver.small_pack import GitObject
from gitserver.stored_objects import StoredObjects
from store.durable import synchronise

PREFIX = "tmp_objdir-incoming-slipway-"
"""Beginning of the folder's name. Git's own begin likewise, so `git prune` knows them for temporary; those of a
git-receive-pack hold no lock of ours, so they must be told apart."""

MAX_COMMIT_BYTES = 1 << 20
"""Longest commit that a branch may hold; its message is shown in many places."""

log = structlog.get_logger()


class Quarantine:
    """Objects that nobody but the push itself can see.

    Those of a small pack stay in memory until they are accepted, or until a Git program has to see them; the folder is
    made when it is first needed.
    """

    def __init__(self, repository: Path) -> None:
        self._objects = repository / "objects"
        self._folder: Path | None = None
        self._lock: int | None = None
        self.small: Mapping[bytes, GitObject] = {}
        """Objects by their ids, in memory alone."""
        self.self_contained = False
        """Whether the packs in the folder are known to lead to nothing outside them."""

    @property
    def folder(self) -> Path:
        """The folder, to which the objects in memory are written now."""
        if self._folder is None:
            self._folder, self._lock = _make(self._objects)
        if self.small:
            loose_objects.write(self._folder, self.small)
            self.small = {}
        return self._folder

    @property
    def environment(self) -> dict[str, str]:
        """What makes a Git program write here and read here and in the repository (git(1))."""
        return {
            "GIT_OBJECT_DIRECTORY": str(self.folder),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self._objects),
            "GIT_QUARANTINE_PATH": str(self.folder),
        }

    @property
    def empty(self) -> bool:
        """Whether nothing has been written to the folder."""
        return self._folder is None

    @contextmanager
    def objects(self) -> Iterator[list[StoredObjects]]:
        """Open what is in the folder, and what is in the repository."""
        with closing(StoredObjects(self.folder)) as new, closing(StoredObjects(self._objects)) as old:
            yield [new, old]

    @contextmanager
    def store(self) -> Iterator[DiskObjectStore]:
        """Open the quarantine together with the repository's objects behind it."""
        opened = DiskObjectStore(str(self.folder), alternates=[str(self._objects)], fsync_object_files=True)
        with closing(opened) as store:
            try:
                yield store
            finally:
                for alternate in store.alternates:
                    alternate.close()

    def is_commit(self, oid: str) -> bool:
        """Tell whether an object, here or in the repository, is a commit."""
        if item := self.small.get(oid.encode()):
            return item.kind == b"commit"
        for folder in (self._folder, self._objects):
            if folder is not None:
                with closing(StoredObjects(folder)) as stored:
                    if item := stored.read(oid.encode(), MAX_COMMIT_BYTES):
                        return item.kind == b"commit"
        return False

    @contextmanager
    def new_packs(self) -> Iterator[list[PackIndex]]:
        """Open the indices of the packs in the folder."""
        indices = [load_pack_index(str(path), SHA1) for path in (self.folder / "pack").glob("*.idx")]
        try:
            yield indices
        finally:
            for index in indices:
                index.close()

    def accept(self) -> None:
        """Move everything into the repository, an index after its pack: a pack is visible as soon as its index is."""
        loose_objects.write(self._objects, self.small)
        if self._folder is None:
            return
        for source in sorted(self._folder.rglob("*"), key=lambda path: path.suffix == ".idx"):
            relative = source.relative_to(self._folder)
            if source.is_file() and (relative.parts[0] == "pack" or len(relative.parts[0]) == 2):
                target = self._objects / relative
                target.parent.mkdir(exist_ok=True)
                source.rename(target)
        if (self._objects / "pack").exists():
            synchronise(self._objects / "pack")

    def remove(self) -> None:
        """Remove whatever was not accepted."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


@contextmanager
def quarantine(repository: Path) -> Iterator[Quarantine]:
    """Open a quarantine in a bare repository, and remove it with whatever was not accepted."""
    remove_abandoned(repository)
    opened = Quarantine(repository)
    try:
        yield opened
    finally:
        opened.remove()


def remove_abandoned(repository: Path) -> None:
    """Remove quarantines of processes that are gone."""
    for folder in (repository / "objects").glob(PREFIX + "*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                log.info("quarantine.abandoned", repository=repository.name)
            finally:
                os.close(lock)


def remove_all_abandoned(repositories: Path) -> None:
    """Remove quarantines of processes that are gone from every repository in a folder: nobody may push there again."""
    for repository in repositories.glob("*.git"):
        remove_abandoned(repository)


def _make(objects: Path) -> tuple[Path, int]:
    """Make a locked folder; return it with the descriptor that holds the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=objects))
        # Until it is locked, another push may take it for an abandoned one and remove it.
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(FileNotFoundError, BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (folder / "pack").mkdir()
                return folder, lock
            os.close(lock)
