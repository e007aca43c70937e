"""Where the objects of a push stay until they have been accepted (git-receive-pack(1), "Quarantine Environment").

A quarantine is a folder among the repository's objects, on the same file system, so that accepting is renaming. It is
locked by the process that fills it; the lock dies with its holder, and so a later push can tell an abandoned one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import structlog
from dulwich.object_store import DiskObjectStore

PREFIX = "tmp_objdir-incoming-slipway-"
"""Beginning of the folder's name. Git's own begin likewise, so `git prune` knows them for temporary; those of a
git-receive-pack hold no lock of ours, so they must be told apart."""

log = structlog.get_logger()


class Quarantine:
    """Objects that nobody but the push itself can see."""

    def __init__(self, folder: Path, objects: Path) -> None:
        self.folder = folder
        self._objects = objects

    @property
    def environment(self) -> dict[str, str]:
        """What makes a Git program write here and read here and in the repository (git(1))."""
        return {
            "GIT_OBJECT_DIRECTORY": str(self.folder),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self._objects),
            "GIT_QUARANTINE_PATH": str(self.folder),
        }

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

    def accept(self) -> None:
        """Move everything into the repository, an index after its pack: a pack is visible as soon as its index is."""
        for source in sorted(self.folder.rglob("*"), key=lambda path: path.suffix == ".idx"):
            relative = source.relative_to(self.folder)
            if source.is_file() and (relative.parts[0] == "pack" or len(relative.parts[0]) == 2):
                target = self._objects / relative
                target.parent.mkdir(exist_ok=True)
                source.rename(target)


@contextmanager
def quarantine(repository: Path) -> Iterator[Quarantine]:
    """Make a quarantine in a bare repository, and remove it with whatever was not accepted."""
    objects = repository / "objects"
    remove_abandoned(repository)
    folder, lock = _make(objects)
    try:
        yield Quarantine(folder, objects)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


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
