"""An app's bare repository, as operations see it: commits are resolved and held, branches move.

Refs are read and written by dulwich, with Git's own lock files, so that C Git may work on the same repository.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from pathlib import Path

from dulwich.file import FileLocked
from dulwich.graph import can_fast_forward
from dulwich.objects import Commit, ObjectID, Tag
from dulwich.refs import Ref
from dulwich.repo import Repo

from hooks import ref_locks
from hooks.pre_receive import RESERVED, ZERO
from store.durable import synchronise
from store.errors import SlipwayError
from store.reserve import DiskFullError, is_full

DEPLOYING = ("refs/heads/master", "refs/heads/main")
"""Branches whose update is a deploy."""

Branches = Mapping[str, str | None]
"""Commits by full ref name; None where there is no such branch."""

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

    def remove(self) -> None:
        """Remove the repository with all that was ever pushed; one that is gone counts as removed."""
        # Under another name first, so that nobody ever finds half a repository.
        going = self.path.with_name(f"{self.path.name}.going")
        with suppress(FileNotFoundError):
            self.path.rename(going)
        shutil.rmtree(going, ignore_errors=not going.exists())

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

    def branches(self) -> Branches:
        """Return where the deploying branches point."""
        with self._repo() as repo:
            values = {name: repo.refs.read_ref(Ref(name.encode())) for name in DEPLOYING}
            return {name: value.decode() if value else None for name, value in values.items()}

    def move(self, before: Branches, after: Branches) -> None:
        """Move branches from where they point to where they shall; None is no branch.

        Raises StaleRefError, with none of them moved, if one is locked or does not point where `before` says;
        DiskFullError as well.
        """
        moved: list[str] = []
        for name, commit in after.items():
            if before.get(name) == commit:
                continue
            full = False
            try:
                done = self._set(name, before.get(name), commit)
            except FileLocked:
                done = False
            except OSError as error:
                # The lock was ours, and dulwich leaves it behind where it cannot be written for want of room.
                (self.path / f"{name}.lock").unlink(missing_ok=True)
                done, full = False, is_full(error)
            if not done:
                for earlier in moved:
                    self._set(earlier, after[earlier], before.get(earlier))
                if full:
                    raise DiskFullError
                raise StaleRefError(f"{name} is locked or was moved by somebody else meanwhile; push again")
            moved.append(name)

    def clear_locks(self) -> None:
        """Remove the lock files of a former engine room that was killed while it moved a ref.

        To be called before anything else at a start: only the engine room moves these refs.
        """
        for name in DEPLOYING:
            (self.path / f"{name}.lock").unlink(missing_ok=True)
        ref_locks.remove_abandoned(self.path / "packed-refs")
        for lock in (self.path / RESERVED).rglob("*.lock"):
            lock.unlink(missing_ok=True)

    def _set(self, name: str, old: str | None, new: str | None) -> bool:
        ref = Ref(name.encode())
        with self._repo() as repo:
            if new is None:
                ref_locks.remove_abandoned(self.path / "packed-refs")
                return repo.refs.remove_if_equals(ref, ObjectID(old.encode()) if old else None)
            expected = ObjectID((old or ZERO).encode())
            done = repo.refs.set_if_equals(ref, expected, ObjectID(new.encode()))
        synchronise((self.path / name).parent)
        return done

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Return whether `descendant` has `ancestor` in its history, so that moving on to it loses nothing."""
        with self._repo() as repo:
            return can_fast_forward(repo, ObjectID(ancestor.encode()), ObjectID(descendant.encode()))

    def hold(self, kind: str, number: int, commit: str) -> None:
        """Keep a commit from being collected, under a ref that no client sees: `kind` is operations or releases."""
        with self._repo() as repo:
            repo.refs[Ref(f"{RESERVED}{kind}/{number}".encode())] = ObjectID(commit.encode())

    def keep_held(self, kind: str, numbers: Collection[int]) -> None:
        """Let go of everything that `hold` holds under other numbers."""
        with self._repo() as repo:
            for name in repo.refs.subkeys(Ref(f"{RESERVED}{kind}/".encode())):
                if not name.isdigit() or int(name) not in numbers:
                    repo.refs.remove_if_equals(Ref(f"{RESERVED}{kind}/".encode() + name), None)

    def let_go(self, kind: str, number: int) -> None:
        """Undo `hold`. Nothing is held by a repository that was removed."""
        if not self.path.exists():
            return
        ref_locks.remove_abandoned(self.path / "packed-refs")
        with self._repo() as repo:
            repo.refs.remove_if_equals(Ref(f"{RESERVED}{kind}/{number}".encode()), None)
