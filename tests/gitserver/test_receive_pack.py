"""What receive-pack answers to clients that no Git is: stale, broken, or hostile."""

from __future__ import annotations

import pytest
from dulwich.protocol import pkt_line

from gitserver.quarantine import quarantine
from hooks.pre_receive import ZERO
from tests.gitserver.conftest import Door, assert_sound, eventually, server_git
from tests.gitserver.wire import RawPush, blob, commit, new, pack, push, tree

FILE = blob(b"text\n")
TREE = tree(file=FILE)
FIRST = commit(TREE)
SECOND = commit(TREE, FIRST)
WHOLE = pack(FILE, TREE, FIRST)
EMPTY = pack()
# More objects than are kept in memory, so that they go to a quarantine on disk.
FILES = {f"file{number}": blob(b"number %d\n" % number) for number in range(150)}
MANY = commit(tree(**FILES))
LARGE = pack(*FILES.values(), tree(**FILES), MANY)


def shop_refs(door: Door) -> str:
    return server_git(door, "shop", "for-each-ref", "--format=%(refname)")


def test_capabilities_are_those_of_gits_own_server(door: Door) -> None:
    raw = RawPush(door, "alice", "shop")
    raw.vanish()
    names = {capability.partition("=")[0] for capability in raw.capabilities}
    assert names == {
        "report-status", "report-status-v2", "delete-refs", "side-band-64k", "quiet", "atomic", "ofs-delta",
        "push-options", "object-format", "agent",
    }  # fmt: skip
    assert "object-format=sha1" in raw.capabilities


def test_a_stale_push_is_refused_and_deploys_nothing(either_door: Door) -> None:
    push(either_door, new("refs/heads/main", FIRST), data=WHOLE)
    deploys = len(either_door.engine_room.pushes)
    answer = push(
        either_door,
        ("refs/heads/main", SECOND.id.decode(), FIRST.id.decode()),
        ("refs/heads/other", SECOND.id.decode(), FIRST.id.decode()),
        data=EMPTY,
    )
    assert answer.report[0] == "unpack ok"
    assert [line.split(" it has moved")[0] for line in answer.report[1:]] == [
        "ng refs/heads/main",
        "ng refs/heads/other",
    ]
    assert len(either_door.engine_room.pushes) == deploys
    assert answer.status == 0


def test_a_new_ref_that_exists_by_now_is_refused(either_door: Door) -> None:
    push(either_door, new("refs/heads/b", FIRST), data=WHOLE)
    answer = push(either_door, new("refs/heads/b", SECOND), data=pack(SECOND))
    assert answer.report[1].startswith("ng refs/heads/b it has moved")
    assert server_git(either_door, "shop", "rev-parse", "b") == FIRST.id.decode()


def test_an_atomic_push_with_one_stale_ref_moves_none(either_door: Door) -> None:
    answer = push(
        either_door,
        new("refs/heads/one", FIRST),
        ("refs/heads/two", SECOND.id.decode(), FIRST.id.decode()),
        data=WHOLE,
        capabilities="report-status side-band-64k atomic",
    )
    assert [line.split()[0] for line in answer.report] == ["unpack", "ng", "ng"]
    assert shop_refs(either_door) == ""


@pytest.mark.parametrize("missing", ["tree", "blob", "parent", "everything"])
def test_a_push_must_bring_all_that_its_refs_lead_to(either_door: Door, missing: str) -> None:
    sent = {
        "tree": pack(FILE, FIRST),
        "blob": pack(TREE, FIRST),
        "parent": pack(FILE, TREE, SECOND),
        "everything": EMPTY,
    }[missing]
    answer = push(either_door, new("refs/heads/b", SECOND if missing == "parent" else FIRST), data=sent)
    assert "ng refs/heads/b" in " ".join(answer.report)
    assert shop_refs(either_door) == ""
    assert_sound(either_door, "shop")
    assert server_git(either_door, "shop", "count-objects") == "0 objects, 0 kilobytes"


def test_a_good_ref_is_taken_beside_a_broken_one(either_door: Door) -> None:
    push(either_door, new("refs/heads/base", FIRST), data=WHOLE)
    nowhere = commit(TREE, message=b"never sent\n")
    answer = push(either_door, new("refs/heads/bad", nowhere), new("refs/heads/good", SECOND), data=pack(SECOND))
    assert answer.report == ["unpack ok", "ng refs/heads/bad missing necessary objects", "ok refs/heads/good"]


@pytest.mark.parametrize(
    "damaged",
    [
        WHOLE[:-25],
        WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]),
        WHOLE[:20] + bytes([WHOLE[20] ^ 1]) + WHOLE[21:],
        pack(FILE, TREE, FIRST, count=4),
        pack(FILE, TREE, FIRST, count=1),
        b"JUNK" + WHOLE[4:],
        WHOLE[:7],
        b"",
        EMPTY[:-1] + b"x",
        pack(FILE, TREE, FIRST, count=2**32 - 1),
    ],
    ids=["cut", "checksum", "bit", "too-many", "too-few", "no-pack", "header", "nothing", "empty-checksum", "billions"],
)
def test_a_damaged_pack_leaves_nothing(either_door: Door, damaged: bytes) -> None:
    answer = push(either_door, new("refs/heads/main", FIRST), data=damaged)
    assert answer.report[0].startswith("unpack ")
    assert answer.report[0] != "unpack ok"
    assert answer.report[1:] == ["ng refs/heads/main unpacker error"]
    assert shop_refs(either_door) == ""
    assert either_door.engine_room.pushes == []
    assert_sound(either_door, "shop")


def test_an_object_that_fsck_refuses_is_refused(either_door: Door) -> None:
    evil = tree(**{".git": blob(b"hooks\n")})
    answer = push(either_door, new("refs/heads/b", commit(evil)), data=pack(blob(b"hooks\n"), evil, commit(evil)))
    assert answer.report[0].startswith("unpack ")
    assert answer.report[0] != "unpack ok"
    assert_sound(either_door, "shop")


def test_a_client_that_vanishes_in_the_middle_of_a_pack_leaves_nothing(either_door: Door) -> None:
    before = either_door.settled()
    raw = RawPush(either_door, "alice", "shop")
    raw.commands(new("refs/heads/main", MANY))
    raw.send(LARGE[:30])
    objects = either_door.engine_room.apps["shop"].path / "objects"
    eventually(lambda: bool(list(objects.glob("tmp_objdir-*"))), "no quarantine was made")
    raw.vanish()
    eventually(lambda: either_door.counts() == before, "something leaked")
    assert_sound(either_door, "shop")
    assert either_door.engine_room.pushes == []


def test_a_client_that_vanishes_in_the_middle_of_a_small_pack_leaves_nothing(door: Door) -> None:
    before = door.settled()
    raw = RawPush(door, "alice", "shop")
    raw.commands(new("refs/heads/main", FIRST))
    raw.send(WHOLE[:30])
    raw.vanish()
    eventually(lambda: door.counts() == before, "something leaked")
    assert_sound(door, "shop")
    assert server_git(door, "shop", "count-objects") == "0 objects, 0 kilobytes"


def test_a_push_leaves_the_quarantine_of_another_that_is_under_way(door: Door) -> None:
    raw = RawPush(door, "alice", "shop")
    raw.commands(new("refs/heads/main", MANY))
    raw.send(LARGE[:30])
    objects = door.engine_room.apps["shop"].path / "objects"
    eventually(lambda: bool(list(objects.glob("tmp_objdir-*"))), "no quarantine was made")
    other = RawPush(door, "alice", "shop")
    other.commands(new("refs/heads/other", FIRST))
    other.send(WHOLE)
    other.end()
    assert other.answer().report == ["unpack ok", "ok refs/heads/other"]
    # The first one's is in use, and stays.
    assert list(objects.glob("tmp_objdir-*"))
    raw.send(LARGE[30:])
    raw.end()
    assert raw.answer().report == ["unpack ok", "ok refs/heads/main"]
    assert_sound(door, "shop")


def test_a_quarantine_whose_front_door_was_killed_goes_with_the_next_push(door: Door) -> None:
    raw = RawPush(door, "alice", "shop")
    raw.commands(new("refs/heads/main", MANY))
    raw.send(LARGE[:30])
    path = door.engine_room.apps["shop"].path
    eventually(lambda: bool(list((path / "objects").glob("tmp_objdir-*"))), "no quarantine was made")
    door.process.kill()
    door.process.wait()
    (abandoned,) = (path / "objects").glob("tmp_objdir-*")
    with quarantine(path) as mine:
        assert not abandoned.exists()
        assert mine.folder.exists()
    assert_sound(door, "shop")


@pytest.mark.parametrize(
    "name",
    [
        "refs/heads/..", "refs/heads/a..b", "refs/heads/a.lock", "refs/heads/.a", "refs/heads/a b", "refs/heads/@{x",
        "refs/heads/a\\b", "refs/heads/", "refs/heads/a/", "refs/heads//a", "refs/onelevel", "HEAD", "main", "config",
        "../../etc/passwd", "refs/../config", "refs/heads/../../config", "refs/heads/a\x7f", "refs/heads/a~1",
    ],
)  # fmt: skip
def test_funny_names_are_refused(door: Door, name: str) -> None:
    answer = push(door, new(name, FIRST), new("refs/heads/good", FIRST), data=WHOLE)
    assert answer.report == ["unpack ok", f"ng {name} funny refname", "ok refs/heads/good"]
    assert shop_refs(door) == "refs/heads/good"


def test_names_that_the_file_system_refuses_are_refused(either_door: Door) -> None:
    long = "refs/heads/" + "x" * 300
    deep = "refs/heads/" + "/".join(["x" * 200] * 40)
    answer = push(either_door, new(long, FIRST), new(deep, FIRST), new("refs/heads/ü", FIRST), data=WHOLE)
    assert "name is too long" in answer.report[1]
    assert "name is too long" in answer.report[2]
    assert answer.report[3] == "ok refs/heads/ü"
    assert_sound(either_door, "shop")


def test_one_ref_twice_in_a_push_is_refused(door: Door) -> None:
    answer = push(door, new("refs/heads/b", FIRST), new("refs/heads/b", SECOND), data=pack(FILE, TREE, FIRST, SECOND))
    assert all("more than once" in line for line in answer.report[1:])
    assert shop_refs(door) == ""


def test_two_deploys_in_one_push_are_refused(door: Door) -> None:
    answer = push(door, new("refs/heads/main", FIRST), new("refs/heads/master", FIRST), data=WHOLE)
    assert all("would both deploy" in line for line in answer.report[1:])
    assert door.engine_room.pushes == []


def test_a_branch_holds_a_commit(either_door: Door) -> None:
    answer = push(either_door, new("refs/heads/main", TREE), new("refs/tags/t", TREE), data=pack(FILE, TREE))
    assert answer.report[1] == "ng refs/heads/main a branch holds a commit, and this object is none"
    assert answer.report[2] == "ok refs/tags/t"
    assert either_door.engine_room.pushes == []


def test_without_a_side_band_the_log_is_on_standard_error(door: Door) -> None:
    answer = push(door, new("refs/heads/main", FIRST), data=WHOLE, capabilities="report-status")
    assert answer.report == ["unpack ok", "ok refs/heads/main"]
    assert "deploying" in answer.errors


def test_a_client_that_wants_no_report_gets_none(door: Door) -> None:
    answer = push(door, new("refs/heads/main", FIRST), data=WHOLE, capabilities="")
    assert answer.report == []
    assert server_git(door, "shop", "rev-parse", "main") == FIRST.id.decode()


@pytest.mark.parametrize(
    "said",
    [
        b"0004", b"zzzz", b"-001", b"0003", pkt_line(b"hello"), pkt_line(b"push-cert\0 push-cert"),
        pkt_line(f"{ZERO} {ZERO[:-1]} refs/heads/x".encode()),
        pkt_line(f"{ZERO} {'1' * 40} refs/heads/x\0 object-format=sha256".encode()) + b"0000",
        pkt_line(b"%s %s refs/heads/\xff" % (ZERO.encode(), b"1" * 40)),
        b"00ff" + b"x" * 100,
    ],
)  # fmt: skip
def test_what_is_not_the_protocol_gets_a_sentence(door: Door, said: bytes) -> None:
    raw = RawPush(door, "alice", "shop")
    raw.send(said)
    raw.end()
    answer = raw.answer()
    assert answer.status == 128
    assert answer.errors.count("\n") == 1
    assert shop_refs(door) == ""


def test_a_client_may_look_and_leave(door: Door) -> None:
    for said in (b"0000", b""):
        raw = RawPush(door, "alice", "shop")
        raw.send(said)
        raw.end()
        assert raw.answer().status == 0
