"""A commit's tree, read straight from Git objects: nothing is checked out.

Trees come from whoever pushed. Their modes and names are Git's (gitformat-index(5), git-fsck(1)), and a name that would
mean something else in a path than one entry of its folder is refused here again, whatever was checked at the door.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dulwich.errors import NotGitRepository, ObjectFormatException
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.repo import Repo

from builder import blobs
from builder.blobs import BlobError, Content, Reader
from store.errors import SlipwayError

Answer = TypeVar("Answer")

GITLINK = 0o160000
"""Mode of a submodule: a commit of another repository."""
_NO_SUBMODULES: Mapping[bytes, bytes] = {}
LONGEST_FILE = 1 << 20
"""Bytes of a file that is read as a whole: a Dockerfile, Procfile or `.dockerignore`."""


class SourceError(SlipwayError):
    """The commit does not have what a build needs, or has what it must not have."""


@dataclass(frozen=True)
class Source:
    """A commit in a repository."""

    repository: Path
    """The bare repository's folder."""
    commit: str
    """40 hexadecimal digits."""


@dataclass(frozen=True)
class Entry:
    """One entry of a tree."""

    path: bytes
    """Relative to the folder that was asked for."""
    mode: int
    """As Git has it, file type included."""
    object: bytes
    """Id of the blob, tree, or a submodule's commit: 40 hexadecimal digits."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a tree."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether its blob is the target of a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_regular(self) -> bool:
        """Whether it is a file with content of its own."""
        return stat.S_ISREG(self.mode)

    @property
    def has_blob(self) -> bool:
        """Whether there is a blob of this repository behind it. An entry without an id is none of the tree's."""
        return bool(self.object) and (self.is_regular or self.is_symlink)

    @property
    def is_submodule(self) -> bool:
        """Whether it is a gitlink."""
        return self.mode == GITLINK


class CommitTree:
    """The tree of one commit, open for reading."""

    def __init__(self, repository: Repo, source: Source, submodules: Mapping[bytes, bytes]) -> None:
        self._submodules = submodules
        self._objects = repository.object_store
        self._repository = source.repository
        self.commit = source.commit
        try:
            commit = self._objects[ObjectID(source.commit.encode())]
        except (KeyError, ValueError):
            commit = None
        if not isinstance(commit, Commit):
            raise SourceError(f"There is no commit {source.commit[:40]} in the app's repository; push it first")
        self._root: bytes = commit.tree

    def file(self, path: str) -> bytes | None:
        """Return a regular file's content, None if there is no such path.

        Raises SourceError for anything that is no regular file of at most LONGEST_FILE bytes.
        """
        entry = self._find(path)
        if entry is None:
            return None
        if not stat.S_ISREG(entry.mode):
            kind = "a symbolic link" if entry.is_symlink else "no file"
            raise SourceError(f"{path} in commit {self.commit[:12]} is {kind}; a regular file is needed there")
        content = self.blob(entry)
        if len(content) > LONGEST_FILE:
            raise SourceError(f"{path} in commit {self.commit[:12]} is larger than {LONGEST_FILE >> 10} KiB")
        return content

    @property
    def root(self) -> bytes:
        """The id of the commit's tree."""
        return self._root

    def submodule(self, path: str) -> str | None:
        """Return the id of the commit that `path` names as a submodule, None if it is none."""
        entry = self._find(path)
        return entry.object.decode() if entry and entry.is_submodule else None

    def has_folder(self, path: str) -> bool:
        """Tell whether `path` is a folder; `.` always is."""
        entry = self._find(path)
        return entry is not None and entry.is_folder

    def children(self, folder: bytes, path: bytes) -> Iterator[Entry]:
        """Yield a tree's entries in Git's order, their paths below `path`. Raises SourceError for a hostile name."""
        try:
            tree = self._objects[ObjectID(folder)]
        except KeyError:
            tree = None
        if not isinstance(tree, Tree):
            raise self._damaged(path)
        seen: set[bytes] = set()
        for name, mode, object_id in tree.items():
            if name in seen or name in (b"", b".", b"..") or b"/" in name or b"\0" in name or name.lower() == b".git":
                raise SourceError(
                    f"Commit {self.commit[:12]} has an entry {name[:60]!r} in '{_shown(path)}', which is unsafe"
                )
            seen.add(name)
            if mode == GITLINK and object_id in self._submodules:
                mode, object_id = stat.S_IFDIR, ObjectID(self._submodules[object_id])  # noqa: PLW2901
            yield Entry(path + b"/" + name if path else name, mode, object_id)

    def folder(self, path: str) -> bytes:
        """Return the id of a folder's tree. Raises SourceError if there is none."""
        entry = self._find(path)
        if entry is None or not entry.is_folder:
            raise SourceError(f"There is no folder {path} in commit {self.commit[:12]}; SLIPWAY_BUILD_CONTEXT names it")
        return entry.object

    def blob(self, entry: Entry) -> bytes:
        """Return the content of a file, or the target of a symbolic link."""
        try:
            kind, content = self._objects.get_raw(ObjectID(entry.object))
        except KeyError:
            raise self._damaged(entry.path) from None
        if kind != Blob.type_num:
            raise self._damaged(entry.path)
        return content

    def contents(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Content | None]]:
        """Yield every entry, with its content where it has one: a file's, or a symbolic link's target.

        A content is read before the next entry is asked for. Raises SourceError.
        """
        yield from self._joined(entries, lambda ids: blobs.contents(self._repository, ids))

    def sizes(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, int | None]]:
        """Yield every entry, with its content's length in bytes where it has one. Raises SourceError."""
        yield from self._joined(entries, lambda ids: blobs.sizes(self._repository, ids))

    def _joined(
        self, entries: Iterable[Entry], read: Callable[[Iterator[bytes]], Iterator[Answer]]
    ) -> Iterator[tuple[Entry, Answer | None]]:
        waiting = deque[Entry]()

        def ids() -> Iterator[bytes]:
            for entry in entries:
                waiting.append(entry)
                if entry.has_blob:
                    yield entry.object

        try:
            for answer in read(ids()):
                while not waiting[0].has_blob:
                    yield waiting.popleft(), None
                yield waiting.popleft(), answer
            while waiting:
                yield waiting.popleft(), None
        except BlobError as error:
            raise SourceError(
                f"Commit {self.commit[:12]} is damaged, since {error} cannot be read; push it again"
            ) from None

    def reader(self) -> Reader:
        """Return a way to single blobs by their ids."""
        return Reader(self._repository)

    def _find(self, path: str) -> Entry | None:
        entry = Entry(b"", stat.S_IFDIR, self._root)
        for part in path.encode("utf-8", "surrogateescape").split(b"/"):
            if part in (b"", b"."):
                continue
            if not entry.is_folder:
                return None
            child = next((each for each in self.children(entry.object, b"") if each.path == part), None)
            if child is None:
                return None
            entry = Entry(entry.path + b"/" + part if entry.path else part, child.mode, child.object)
        return entry

    def _damaged(self, path: bytes) -> SourceError:
        return SourceError(f"Commit {self.commit[:12]} is damaged at '{_shown(path)}'; push it again")


@contextmanager
def open_tree(source: Source, submodules: Mapping[bytes, bytes] = _NO_SUBMODULES) -> Iterator[CommitTree]:
    """Open a commit's tree for the time of a `with` block.

    `submodules` are the root trees of commits that the repository has beside it, by the commits' ids: where the tree
    has such a submodule, it has a folder.

    Raises SourceError if the repository or the commit is not there.
    """
    try:
        repository = Repo(str(source.repository))
    except NotGitRepository:
        raise SourceError("The app's repository is not there; nothing was built") from None
    try:
        yield CommitTree(repository, source, submodules)
    except ObjectFormatException:
        raise SourceError(
            f"Commit {source.commit[:12]} has an object that Git cannot read; nothing was built"
        ) from None
    finally:
        repository.close()


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "replace")[:200] or "its root"
