"""An app's bare repository, as operations see it: commits are resolved and held, branches move.

Refs are read and written by dulwich, with Git's own lock files, so that C Git may work on the same repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from dulwich.file import FileLocked
from dulwich.graph import can_fast_forward
from dulwich.object_store import tree_lookup_path
from dulwich.objects import Blob, Commit, ObjectID, Tag
from dulwich.refs import Ref
from dulwich.repo import Repo

from hooks.pre_receive import RESERVED, ZERO
from store.errors import SlipwayError

DEPLOYING = ("refs/heads/master", "refs/heads/main")
"""Branches whose update is a deploy."""

_HEX = re.compile(r"[0-9a-f]{7,40}")


class CommitishError(SlipwayError):
    """A name that stands for no commit."""


class StaleRefError(SlipwayError):
    """A branch is not where it was expected."""


class BareRepository:
    """One app's repository."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> BareRepository:
        """Make an empty repository; keep the one that is there."""
        if not (path / "HEAD").exists():
            Repo.init_bare(str(path), mkdir=True, default_branch=b"master").close()
        return cls(path)

    def _repo(self) -> closing[Repo]:
        return closing(Repo(str(self.path)))

    def resolve(self, commitish: str) -> str:
        """Return the id of the commit that a branch, a tag or a commit id (7 to 40 digits) names.

        The order is that of gitrevisions(7), tags before branches, so that a name means here what it means there.
        Raises CommitishError.
        """
        with self._repo() as repo:
            for pattern in ("refs/tags/{}", "refs/heads/{}", "{}"):
                name = pattern.format(commitish)
                if not name.startswith(("refs/heads/", "refs/tags/")):
                    continue
                try:
                    found = repo.refs[Ref(name.encode())]
                except (KeyError, ValueError):
                    continue
                return self._peel(repo, found, commitish)
            if _HEX.fullmatch(commitish):
                matches = list(repo.object_store.iter_prefix(commitish.encode()))
                if len(matches) > 1:
                    raise CommitishError(
                        f"{commitish} could be any of {len(matches)} objects; write more of its digits"
                    )
                if matches:
                    return self._peel(repo, matches[0], commitish)
        raise CommitishError(
            f"there is no branch, tag or commit {commitish[:80]!r} on the server; push it first, "
            "for example: git push aptible HEAD:refs/heads/deploy-1"
        )

    @staticmethod
    def _peel(repo: Repo, found: ObjectID, commitish: str) -> str:
        target = repo.object_store[found]
        while isinstance(target, Tag):
            target = repo.object_store[target.object[1]]
        if not isinstance(target, Commit):
            raise CommitishError(f"{commitish[:80]!r} names a {target.type_name.decode()}, not a commit")
        return target.id.decode()

    def read(self, commit: str, name: str, limit: int) -> str | None:
        """Return the text of a file at the root of a commit's tree, or None where there is none.

        Raises SlipwayError for one of more than `limit` bytes.
        """
        with self._repo() as repo:
            tree = repo.object_store[ObjectID(commit.encode())]
            assert isinstance(tree, Commit)  # noqa: S101  (whoever resolved it has seen to that)
            try:
                _, found = tree_lookup_path(repo.object_store.__getitem__, tree.tree, name.encode())
                blob = repo.object_store[found]
            except KeyError:
                return None
            if not isinstance(blob, Blob):
                return None
            if blob.raw_length() > limit:
                raise SlipwayError(f"{name} has more than {limit:,} bytes; that cannot be meant")
            return blob.data.decode(errors="replace")

    def branches(self) -> dict[str, str | None]:
        """Return where the deploying branches point."""
        with self._repo() as repo:
            values = {name: repo.refs.read_ref(Ref(name.encode())) for name in DEPLOYING}
            return {name: value.decode() if value else None for name, value in values.items()}

    def move(self, wanted: Mapping[str, str | None]) -> None:
        """Make branches point at commits; None deletes one.

        Raises StaleRefError, with none of them moved, if one is locked or is changed by somebody else meanwhile.
        """
        moved: dict[str, str | None] = {}
        before = self.branches()
        for name, commit in wanted.items():
            if before.get(name) == commit:
                continue
            try:
                done = self._set(name, before.get(name), commit)
            except (OSError, FileLocked):
                done = False
            if not done:
                for earlier, value in moved.items():
                    self._set(earlier, wanted[earlier], value)
                raise StaleRefError(f"{name} is locked or was moved by somebody else meanwhile; push again")
            moved[name] = before.get(name)

    def _set(self, name: str, old: str | None, new: str | None) -> bool:
        ref = Ref(name.encode())
        with self._repo() as repo:
            if new is None:
                return repo.refs.remove_if_equals(ref, ObjectID(old.encode()) if old else None)
            expected = ObjectID((old or ZERO).encode())
            return repo.refs.set_if_equals(ref, expected, ObjectID(new.encode()))

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Return whether `descendant` has `ancestor` in its history, so that moving on to it loses nothing."""
        with self._repo() as repo:
            return can_fast_forward(repo, ObjectID(ancestor.encode()), ObjectID(descendant.encode()))

    def hold(self, kind: str, number: int, commit: str) -> None:
        """Keep a commit from being collected, under a ref that no client sees: `kind` is operations or releases."""
        with self._repo() as repo:
            repo.refs[Ref(f"{RESERVED}{kind}/{number}".encode())] = ObjectID(commit.encode())

    def let_go(self, kind: str, number: int) -> None:
        """Undo `hold`."""
        with self._repo() as repo:
            repo.refs.remove_if_equals(Ref(f"{RESERVED}{kind}/{number}".encode()), None)
