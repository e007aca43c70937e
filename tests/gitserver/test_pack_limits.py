"""What a push may bring: each limit refuses with its own sentence, whichever way a pack takes, and keeps nothing."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from dulwich.objects import ShaFile

from gitserver.limits import INFLATION_FLOOR_BYTES
from tests.gitserver.conftest import Door, Workspace, assert_sound, server_git, workspace
from tests.gitserver.test_receive_pack import FILE, FIRST, TREE
from tests.gitserver.test_small_pack import entry, offset, packed
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
    file = blob(bytes(INFLATION_FLOOR_BYTES + 1))
    top = commit(tree(file=file))
    answer = push(door, new("refs/heads/b", top), data=pack(file, tree(file=file), top))
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
    assert "taking the push apart takes more than " in answer.report[0]
    assert answer.report[1:] == ["ng refs/heads/b unpacker error"]
    assert_sound(door, "shop")


@pytest.fixture
def large_versions(start_door: Callable[..., Door]) -> Callable[..., tuple[Door, Workspace]]:
    """Return two versions of a large file as they are sent after some time: packed, one as a delta of the other."""

    def committed(*, with_git: bool) -> tuple[Door, Workspace]:
        door = start_door(with_git=with_git)
        work = workspace(door, "alice", "shop")
        first = NOISE(12 << 20)
        for number, content in enumerate([first, first[:-1] + b"!"]):
            (work.path / "large").write_bytes(content)
            work.commit(text=f"{number}\n")
        work.git("gc", "--quiet")
        return door, work

    return committed


def test_versions_of_a_large_file_pass_as_deltas_for_whoever_sends_the_file(
    large_versions: Callable[..., tuple[Door, Workspace]],
) -> None:
    door, work = large_versions(with_git=True)
    work.git("push", "aptible", "main:b")
    assert server_git(door, "shop", "rev-parse", "b") == work.git("rev-parse", "main").stdout.strip()
    assert_sound(door, "shop")


def test_without_git_versions_of_a_large_file_pass_whole(
    large_versions: Callable[..., tuple[Door, Workspace]],
) -> None:
    door, work = large_versions(with_git=False)
    peak = Peak(door)
    answer = work.git("push", "aptible", "main:b", ok=False)
    assert peak.stop() < 40 << 20
    assert "taking the push apart takes more than 24 MiB of memory" in " ".join(answer.stderr.split())
    assert_sound(door, "shop")
    peak = Peak(door)
    work.git("-c", "pack.depth=0", "push", "aptible", "main:b")
    assert peak.stop() < 40 << 20
    assert server_git(door, "shop", "rev-parse", "b") == work.git("rev-parse", "main").stdout.strip()
    assert_sound(door, "shop")


@pytest.mark.parametrize("with_git", [True, False])
def test_versions_of_a_file_of_some_megabytes_pass_as_deltas(start_door: Callable[..., Door], with_git: bool) -> None:
    door = start_door(with_git=with_git)
    work = workspace(door, "alice", "shop")
    first = NOISE(3 << 20)
    for number in range(6):
        (work.path / "large").write_bytes(first[:-1] + bytes([number]))
        work.commit(text=f"{number}\n")
    work.git("gc", "--quiet")
    work.git("push", "aptible", "main:b")
    assert server_git(door, "shop", "rev-parse", "b") == work.git("rev-parse", "main").stdout.strip()
    assert_sound(door, "shop")


@pytest.mark.parametrize("with_git", [True, False])
@pytest.mark.parametrize("kind", [1, 2, 6], ids=["commit", "tree", "delta"])
def test_half_a_megabyte_does_not_fill_the_memory(start_door: Callable[..., Door], with_git: bool, kind: int) -> None:
    """It inflates to half a gigabyte, of something that Git does not read in pieces as it does with files."""
    door = start_door(with_git=with_git)
    first = whole(FIRST)
    bomb = header_of(kind, 1 << 29) + (offset(len(first)) if kind == 6 else b"") + zeros(1 << 29)
    peak = Peak(door)
    answer = push(door, new("refs/heads/b", FIRST), data=packed(first, bomb))
    assert peak.stop() < 40 << 20
    assert "taking the push apart takes more than " in answer.report[0]
    assert server_git(door, "shop", "for-each-ref") == ""
    assert_sound(door, "shop")


def test_a_history_of_long_messages_is_searched_in_little_memory(door: Door) -> None:
    text = NOISE(10_000).hex().encode() * 100
    made = [FIRST]
    for number in range(60):
        made.append(commit(tree(), made[-1], message=b"%d " % number + text))
    made.append(commit(TREE, made[-1]))
    peak = Peak(door)
    answer = push(door, new("refs/heads/b", made[-1]), data=pack(FILE, TREE, tree(), *made))
    assert answer.report == ["unpack ok", "ok refs/heads/b"]
    assert peak.stop() < 40 << 20
    assert_sound(door, "shop")


def header_of(kind: int, size: int) -> bytes:
    data = [kind << 4 | size & 15]
    size >>= 4
    while size:
        data[-1] |= 128
        data.append(size & 127)
        size >>= 7
    return bytes(data)


@cache
def zeros(size: int) -> bytes:
    packer = zlib.compressobj(1)
    piece = bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


class Peak:
    """Watches how much more memory a front door and its programs take than when it began, in bytes."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._before = self._most = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most - self._before

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._most = max(self._most, self._now())

    def _is_another(self, child: int) -> bool:
        # Between vfork(2) and exec a child shows its parent's memory, which is there once.
        return Path(f"/proc/{child}/exe").readlink() != Path(f"/proc/{self._door.process.pid}/exe").readlink()

    def _now(self) -> int:
        processes = [self._door.process.pid]
        for task in Path(f"/proc/{processes[0]}/task").iterdir():
            with suppress(OSError):
                processes += filter(self._is_another, map(int, (task / "children").read_text().split()))
        total = 0
        for process in processes:
            with suppress(OSError):
                status = Path(f"/proc/{process}/status").read_text()
                total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        return total << 10


def varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def whole(item: ShaFile) -> bytes:
    return entry(item.type_num, item.as_raw_string())
