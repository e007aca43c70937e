"""What a push may bring: each limit refuses with its own sentence, whichever way a pack takes, and keeps nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gitserver.limits import INFLATION_FLOOR_BYTES
from tests.gitserver.conftest import Door, assert_sound, server_git, workspace
from tests.gitserver.wire import blob, commit, new, pack, push, tree

NOISE = random.Random(3).randbytes


def refused(door: Door, files: dict[str, bytes], sentence: str) -> None:
    work = workspace(door, "alice", "shop")
    for name, content in files.items():
        (work.path / name).write_bytes(content)
    work.commit()
    answer = work.git("push", "aptible", "main:b", ok=False)
    assert sentence in " ".join(answer.stderr.split())
    assert server_git(door, "shop", "for-each-ref") == ""
    assert_sound(door, "shop")
    assert server_git(door, "shop", "count-objects") == "0 objects, 0 kilobytes"


MANY = {f"file{number}": b"%d\n" % number for number in range(150)}


@pytest.mark.parametrize("with_git", [True, False])
@pytest.mark.parametrize("beside", [{}, MANY], ids=["few", "many"])
def test_an_object_that_is_too_large(start_door: Callable[..., Door], with_git: bool, beside: dict[str, bytes]) -> None:
    door = start_door(with_git=with_git, object_bytes=10_000)
    refused(door, {**beside, "large": bytes(10_001)}, "an object of the push is larger than 10,000 bytes")


@pytest.mark.parametrize("with_git", [True, False])
@pytest.mark.parametrize("size", [50_000, 6 << 20], ids=["small", "large"])
def test_a_pack_that_is_too_large(start_door: Callable[..., Door], with_git: bool, size: int) -> None:
    door = start_door(with_git=with_git, pack_bytes=20_000)
    refused(door, {"noise": NOISE(size)}, "the pack is larger than 20,000 bytes")


@pytest.mark.parametrize("with_git", [True, False])
def test_a_pack_with_too_many_objects(start_door: Callable[..., Door], with_git: bool) -> None:
    door = start_door(with_git=with_git, objects=50)
    refused(door, MANY, "the pack says that it has 153 objects, and 50 are the most")


@pytest.mark.parametrize("with_git", [True, False])
def test_a_pack_that_inflates_to_a_thousand_times_its_size(start_door: Callable[..., Door], with_git: bool) -> None:
    door = start_door(with_git=with_git)
    zeros = blob(bytes(INFLATION_FLOOR_BYTES + 1))
    top = commit(tree(zeros=zeros))
    answer = push(door, new("refs/heads/b", top), data=pack(zeros, tree(zeros=zeros), top))
    assert "the pack inflates to more than 200 times its size" in answer.report[0]
    assert answer.report[1:] == ["ng refs/heads/b unpacker error"]
    assert_sound(door, "shop")
