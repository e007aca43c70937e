"""A history with objects that no Git of today would make: refused, until the administrator excepts what is wrong."""

from __future__ import annotations

import pytest

from tests.gitserver.conftest import Door, Workspace, assert_sound, server_git, workspace

COMMIT = b"tree %s\nauthor Someone 1234567890 +0000\ncommitter Someone <someone@example.net> 1234567890 +0000\n\nold\n"


@pytest.fixture
def old(door: Door) -> Workspace:
    """A clone whose branch is a commit without its author's address."""
    work = workspace(door, "alice", "shop")
    tree = work.git("mktree").stdout.strip()
    (work.path / "commit").write_bytes(COMMIT % tree.encode())
    made = work.git("hash-object", "-t", "commit", "-w", "commit").stdout.strip()
    work.git("update-ref", "refs/heads/main", made)
    return work


def refused(work: Workspace) -> str:
    answer = work.git("push", "aptible", "main:b", ok=False)
    assert answer.returncode != 0
    return answer.stderr


def test_an_old_history_is_taken_as_far_as_the_administrator_excepts_it(door: Door, old: Workspace) -> None:
    assert "missingEmail" in refused(old)
    server_git(door, "shop", "config", "receive.fsck.missingSpaceBeforeDate", "ignore")
    server_git(door, "shop", "config", "receive.fsck.nonsense", "ignore")
    said = refused(old)
    assert "missingEmail" in said
    assert "skipping unknown msg id 'nonsense' of receive.fsck" in said
    server_git(door, "shop", "config", "receive.fsck.missingEmail", "warn")
    assert "missingEmail" in old.git("push", "aptible", "main:b").stderr
    assert server_git(door, "shop", "rev-parse", "b") == old.git("rev-parse", "main").stdout.strip()


def test_single_objects_are_excepted_by_a_list_in_the_repository(door: Door, old: Workspace) -> None:
    repository = door.engine_room.apps["shop"].path
    server_git(door, "shop", "config", "receive.fsck.skipList", "old-objects")
    assert "could not open" in refused(old)
    (repository / "old-objects").write_text(old.git("rev-parse", "main").stdout)
    old.git("push", "aptible", "main:b")
    assert server_git(door, "shop", "rev-parse", "b") == old.git("rev-parse", "main").stdout.strip()


def test_a_configuration_that_cannot_be_read_refuses_the_push(door: Door, old: Workspace) -> None:
    config = door.engine_room.apps["shop"].path / "config"
    before = config.read_text()
    config.write_text(before + "[receive\n")
    assert "the configuration of the repository cannot be read" in " ".join(refused(old).split())
    config.write_text(before)
    assert_sound(door, "shop")
