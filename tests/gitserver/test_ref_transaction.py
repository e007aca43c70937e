"""Refs are compared before they are swapped, whoever else is at them."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitserver.ref_transaction import LOCKED, STALE, apply, current
from hooks.pre_receive import ZERO, RefUpdate
from hooks.ref_locks import ABANDONED_SECONDS
from tests.world.small_disk import small_disk

OIDS = [f"{number:040x}" for number in range(1, 17)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "r.git")], check=True)
    return tmp_path / "r.git"


def left_over(repository: Path) -> list[Path]:
    return list(repository.rglob("*.lock"))


def test_of_many_pushers_from_one_value_one_wins(repository: Path) -> None:
    ref = "refs/heads/b"
    apply(repository, [RefUpdate(ref, ZERO, OIDS[0])], atomic=False)
    with ThreadPoolExecutor(8) as pool:
        tried = pool.map(lambda new: apply(repository, [RefUpdate(ref, OIDS[0], new)], atomic=False)[ref], OIDS[1:])
        winners = [oid for oid, reason in zip(OIDS[1:], tried, strict=True) if reason is None]
    assert winners == [current(repository, ref)]
    assert left_over(repository) == []


def test_a_folder_that_goes_while_it_is_in_the_way_of_itself(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there when it is to be made, and gone when that is looked at."""
    left = [FileExistsError(errno.EEXIST, "File exists")]

    def mkdir(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if left:
            raise left.pop()
        really(path, mode, parents, exist_ok)

    really = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", mkdir)
    ref = "refs/heads/a/0"
    assert apply(repository, [RefUpdate(ref, ZERO, OIDS[0])], atomic=False) == {ref: None}
    assert not left


def test_names_beside_a_folder_that_comes_and_goes(repository: Path) -> None:
    """Deleting a/0 removes the folder a, which may be the very one that a/1 is being written into."""

    def come_and_go(number: int) -> list[str | None]:
        ref = f"refs/heads/a/{number}"
        results = []
        for _ in range(20):
            results.append(apply(repository, [RefUpdate(ref, ZERO, OIDS[number])], atomic=False)[ref])
            results.append(apply(repository, [RefUpdate(ref, OIDS[number], ZERO)], atomic=False)[ref])
        return results

    with ThreadPoolExecutor(4) as pool:
        assert [result for results in pool.map(come_and_go, range(4)) for result in results if result] == []
    assert left_over(repository) == []
    assert not (repository / "refs/heads/a").exists()


def test_a_folder_of_former_refs_is_no_obstacle(repository: Path) -> None:
    (repository / "refs/heads/a/b/c").mkdir(parents=True)
    assert apply(repository, [RefUpdate("refs/heads/a", ZERO, OIDS[0])], atomic=True) == {"refs/heads/a": None}
    assert current(repository, "refs/heads/a") == OIDS[0]


def test_of_an_atomic_transaction_with_one_stale_update_nothing_is_done(repository: Path) -> None:
    apply(repository, [RefUpdate("refs/heads/a", ZERO, OIDS[0])], atomic=True)
    results = apply(
        repository,
        [RefUpdate("refs/heads/a", OIDS[0], ZERO), RefUpdate("refs/heads/b", OIDS[3], OIDS[4])],
        atomic=True,
    )
    assert results["refs/heads/b"] == STALE
    assert results["refs/heads/a"]
    assert current(repository, "refs/heads/a") == OIDS[0]
    assert current(repository, "refs/heads/b") == ZERO
    assert left_over(repository) == []


def test_two_refs_of_one_transaction_cannot_be_each_others_folder(repository: Path) -> None:
    updates = [RefUpdate("refs/heads/x", ZERO, OIDS[0]), RefUpdate("refs/heads/x/y", ZERO, OIDS[1])]
    assert all("at once" in (reason or "") for reason in apply(repository, updates, atomic=True).values())
    assert left_over(repository) == []


@pytest.mark.parametrize("locked", ["refs/heads/b", "packed-refs"])
def test_a_lock_whose_holder_was_killed_does_not_last(repository: Path, locked: str) -> None:
    ref = "refs/heads/b"
    (repository / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{OIDS[0]} {ref}\n")
    lock = repository / f"{locked}.lock"
    lock.touch()
    deletion = RefUpdate(ref, OIDS[0], ZERO)
    assert apply(repository, [deletion], atomic=False) == {ref: LOCKED}, "somebody may hold it"
    long_ago = time.time() - 2 * ABANDONED_SECONDS
    os.utime(lock, (long_ago, long_ago))
    assert apply(repository, [deletion], atomic=False) == {ref: None}
    assert left_over(repository) == []


@pytest.mark.parametrize("atomic", [False, True])
def test_a_disk_without_room_for_a_ref_moves_none_and_leaves_no_lock(tmp_path: Path, atomic: bool) -> None:
    with small_disk(tmp_path, 256 << 10) as disk:
        repository = disk / "r.git"
        subprocess.run(["git", "init", "-q", "--bare", "--template=", repository], check=True)
        refs = ["refs/heads/a", "refs/heads/b"]
        for ref in refs:
            apply(repository, [RefUpdate(ref, ZERO, OIDS[0])], atomic=False)
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(bytes(1 << 20))
        updates = [RefUpdate(ref, OIDS[0], OIDS[1]) for ref in refs]
        refusals = apply(repository, updates, atomic=atomic)
        assert all("No space left on device" in str(reason) for reason in refusals.values())
        assert [current(repository, ref) for ref in refs] == [OIDS[0], OIDS[0]]
        assert left_over(repository) == []
        (disk / "filler").unlink()
        assert apply(repository, updates, atomic=atomic) == dict.fromkeys(refs)
