"""What a push may bring: each limit refuses with its own sentence, whichever way a pack takes, and keeps nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from dulwich.objects import ShaFile

from gitserver.limits import INFLATION_FLOOR_BYTES
from tests.gitserver.conftest import Door, assert_sound, server_git, workspace
from tests.gitserver.test_small_pack import entry, packed
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


def test_a_delta_that_makes_gigabytes_of_megabytes_is_refused(door: Door) -> None:
    base = blob(bytes(16 << 20))
    copies = 200
    size, target = len(base.data), copies * 0xFFFFFF
    # Copy 0xffffff bytes from the base's beginning, again and again (gitformat-pack(5), "Deltified representation").
    delta = varint(size) + varint(target) + b"\xf0\xff\xff\xff" * copies
    entries = [*map(whole, (base, tree(base=base), commit(tree(base=base))))]
    entries.append(entry(7, delta, bytes.fromhex(base.id.decode())))
    answer = push(door, new("refs/heads/b", commit(tree(base=base))), data=packed(*entries))
    assert answer.report == ["unpack index-pack abnormal exit", "ng refs/heads/b unpacker error"]
    assert_sound(door, "shop")


def varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def whole(item: ShaFile) -> bytes:
    return entry(item.type_num, item.as_raw_string())
