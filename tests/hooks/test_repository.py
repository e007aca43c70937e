"""Branches and commits, with C Git working on the same repository."""

import subprocess
from pathlib import Path

import pytest

from hooks.repository import DEPLOYING, BareRepository, CommitishError, StaleRefError
from store.reserve import DiskFullError
from tests.world.small_disk import small_disk


def git(path: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    done = subprocess.run(["git", "-C", path, *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> BareRepository:
    return BareRepository.create(tmp_path / "1.git")


def commit(repository: BareRepository, message: str, *parents: str) -> str:
    tree = git(repository.path, "mktree")
    return git(repository.path, "commit-tree", tree, "-m", message, *(w for p in parents for w in ("-p", p)))


def test_a_commitish_is_a_branch_a_tag_or_an_id(repository: BareRepository) -> None:
    first, second = commit(repository, "one"), commit(repository, "two")
    git(repository.path, "branch", "deploy/1", first)
    git(repository.path, "tag", "-a", "v1", "-m", "v1", second)
    assert repository.resolve("deploy/1") == first
    assert repository.resolve("refs/heads/deploy/1") == first
    assert repository.resolve("v1") == second
    assert repository.resolve(second) == second
    assert repository.resolve(second[:9]) == second


def test_a_name_for_no_commit_is_refused_with_what_to_do(repository: BareRepository) -> None:
    tree = git(repository.path, "mktree")
    for name in ("none", "f" * 40, "..", "../../x", "HEAD~1", "", "refs/slipway/operations/1"):
        with pytest.raises(CommitishError, match="push it first"):
            repository.resolve(name)
    with pytest.raises(CommitishError, match="names a tree"):
        repository.resolve(tree)


def test_branches_move_together_or_not_at_all(repository: BareRepository) -> None:
    first, second = commit(repository, "one"), commit(repository, "two")
    none = {"refs/heads/master": None, "refs/heads/main": None}
    repository.move(none, {"refs/heads/master": first})
    before = repository.branches()
    assert before == {"refs/heads/master": first, "refs/heads/main": None}
    lock = repository.path / "refs/heads/main.lock"
    lock.touch()
    with pytest.raises(StaleRefError, match="locked"):
        repository.move(before, {"refs/heads/master": second, "refs/heads/main": second})
    assert git(repository.path, "rev-parse", "master") == first
    repository.clear_locks()
    with pytest.raises(StaleRefError, match="moved by somebody else"):
        repository.move(none, {"refs/heads/master": second})
    repository.move(before, {"refs/heads/master": None, "refs/heads/main": second})
    assert repository.branches() == {"refs/heads/master": None, "refs/heads/main": second}


def test_a_held_commit_survives_git_gc(repository: BareRepository) -> None:
    held, dropped = commit(repository, "held"), commit(repository, "dropped")
    repository.hold("operations", 5, held)
    git(repository.path, "gc", "--quiet", "--prune=now")
    assert repository.resolve(held) == held
    with pytest.raises(CommitishError):
        repository.resolve(dropped)
    repository.let_go("operations", 5)
    assert git(repository.path, "for-each-ref") == ""


def test_history_is_known(repository: BareRepository) -> None:
    first = commit(repository, "one")
    second, aside = commit(repository, "two", first), commit(repository, "aside", first)
    assert repository.contains(first, second)
    assert not repository.contains(second, aside)


def test_a_full_disk_leaves_no_branch_locked(tmp_path: Path) -> None:
    with small_disk(tmp_path, 256 << 10) as disk:
        repository = BareRepository.create(disk / "r.git")
        (disk / "r.git" / "refs" / "heads").mkdir(exist_ok=True)
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(bytes(1 << 20))
        before = repository.branches()
        wanted = {**before, DEPLOYING[0]: "1" * 40}
        with pytest.raises(DiskFullError):
            repository.move(before, wanted)
        (disk / "filler").unlink()
        repository.move(before, wanted)
        assert repository.branches() == wanted
