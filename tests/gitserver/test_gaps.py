"""What dulwich's stock server of pushes gets wrong, each asked of it and of ours: it fails there, and not here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from dulwich.errors import GitProtocolError
from dulwich.objects import ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo

from hooks.pre_receive import ZERO
from tests.gitserver.conftest import Door, eventually
from tests.gitserver.stock import StockPush
from tests.gitserver.test_receive_pack import EMPTY, FILE, FIRST, SECOND, TREE, WHOLE
from tests.gitserver.wire import Answer, RawPush, blob, commit, new, pack, tree


@dataclass
class Server:
    """Somebody who takes pushes into a repository."""

    path: Path
    open: Callable[[], RawPush]

    def push(self, *updates: tuple[str, str, str], data: bytes = b"", extra: str = "") -> Answer:
        raw = self.open()
        raw.commands(*updates, capabilities=f"report-status side-band-64k{extra}")
        return self.finish(raw, data)

    @staticmethod
    def finish(raw: RawPush, data: bytes) -> Answer:
        with suppress(BrokenPipeError, ConnectionResetError):
            raw.send(data)
            raw.end()
        return raw.answer()

    def has(self, *refs: str) -> bool:
        with Repo(str(self.path)) as repo:
            return {name.decode() for name in repo.refs.allkeys()} - {"HEAD"} == set(refs)

    def holds(self, ref: str) -> None:
        """Have a ref at FIRST already."""
        with Repo(str(self.path)) as repo:
            repo.object_store.add_objects([(item, None) for item in (FILE, TREE, FIRST)])
            repo.refs[Ref(ref.encode())] = ObjectID(FIRST.id)

    def git(self, *words: str) -> str:
        command = ["git", "--git-dir", str(self.path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def a_stale_update_is_reported(server: Server) -> bool:
    server.holds("refs/heads/b")
    answer = server.push(("refs/heads/b", "1" * 40, SECOND.id.decode()), data=pack(SECOND))
    return answer.report[1].startswith("ng refs/heads/b")


def a_stale_deletion_is_reported(server: Server) -> bool:
    server.holds("refs/heads/b")
    return server.push(("refs/heads/b", "1" * 40, ZERO)).report[1].startswith("ng refs/heads/b")


def atomic_is_all_or_nothing(server: Server) -> bool:
    server.holds("refs/heads/b")
    server.push(
        ("refs/heads/b", "1" * 40, SECOND.id.decode()),
        new("refs/heads/second", SECOND),
        data=pack(SECOND),
        extra=" atomic",
    )
    return server.has("refs/heads/b")


def a_ref_to_nothing_is_refused(server: Server) -> bool:
    server.push(new("refs/heads/b", FIRST), data=EMPTY)
    return server.has()


def a_commit_without_its_tree_is_refused(server: Server) -> bool:
    server.push(new("refs/heads/b", FIRST), data=pack(FIRST))
    return server.has()


def a_push_from_a_shallow_clone_is_taken(server: Server) -> bool:
    server.holds("refs/heads/b")
    raw = server.open()
    raw.protocol.write_pkt_line(f"shallow {FIRST.id.decode()}".encode())
    raw.commands(("refs/heads/b", FIRST.id.decode(), SECOND.id.decode()))
    return "ok refs/heads/b" in server.finish(raw, pack(SECOND)).report


def push_options_are_offered(server: Server) -> bool:
    raw = server.open()
    raw.end()
    raw.answer()
    return "push-options" in raw.capabilities


def the_agent_and_the_longer_report_are_offered(server: Server) -> bool:
    raw = server.open()
    raw.end()
    raw.answer()
    return "report-status-v2" in raw.capabilities and any(word.startswith("agent=") for word in raw.capabilities)


def head_is_nothing_to_push_to(server: Server) -> bool:
    server.git("symbolic-ref", "HEAD", "refs/heads/b")
    server.holds("refs/heads/b")
    raw = server.open()
    raw.end()
    raw.answer()
    return set(raw.refs) == {"refs/heads/b"}


def a_name_is_no_folder_of_a_packed_ref(server: Server) -> bool:
    server.holds("refs/heads/a/b")
    server.git("pack-refs", "--all")
    server.push(new("refs/heads/a", FIRST), data=EMPTY)
    return server.has("refs/heads/a/b")


def nothing_stays_of_a_truncated_pack(server: Server) -> bool:
    server.push(new("refs/heads/b", FIRST), data=WHOLE[:-25])
    return not [path for path in (server.path / "objects").rglob("*") if path.is_file()]


def nothing_stays_of_a_pack_with_a_wrong_checksum(server: Server) -> bool:
    server.push(new("refs/heads/b", FIRST), data=WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]))
    return not [path for path in (server.path / "objects").rglob("*") if path.is_file()]


def nothing_stays_of_a_pusher_who_vanishes(server: Server) -> bool:
    raw = server.open()
    raw.commands(new("refs/heads/b", FIRST))
    raw.send(WHOLE[:60])
    raw.vanish()
    objects = server.path / "objects"
    with suppress(AssertionError):
        eventually(lambda: not list(objects.rglob("*tmp*")), "it stays", seconds=5)
    return not [path for path in objects.rglob("*") if path.is_file()]


def each_ref_of_a_damaged_pack_is_told_so(server: Server) -> bool:
    answer = server.push(new("refs/heads/b", FIRST), data=WHOLE[:-25])
    return "ng refs/heads/b unpacker error" in answer.report


def an_empty_packet_is_answered(server: Server) -> bool:
    raw = server.open()
    raw.send(b"0004")
    raw.end()
    return "is not an update of a ref" in raw.answer().errors


def a_deploying_branch_cannot_be_deleted(server: Server) -> bool:
    server.holds("refs/heads/main")
    server.push(("refs/heads/main", FIRST.id.decode(), ZERO))
    return server.has("refs/heads/main")


def a_tree_that_would_write_into_git_is_refused(server: Server) -> bool:
    hook = blob(b"#!/bin/sh\n")
    evil = tree(**{".git": hook})
    server.push(new("refs/heads/b", commit(evil)), data=pack(hook, evil, commit(evil)))
    return server.has()


GAPS: list[Callable[[Server], bool]] = [
    a_stale_update_is_reported,
    a_stale_deletion_is_reported,
    atomic_is_all_or_nothing,
    a_ref_to_nothing_is_refused,
    a_commit_without_its_tree_is_refused,
    a_push_from_a_shallow_clone_is_taken,
    push_options_are_offered,
    the_agent_and_the_longer_report_are_offered,
    head_is_nothing_to_push_to,
    a_name_is_no_folder_of_a_packed_ref,
    nothing_stays_of_a_truncated_pack,
    nothing_stays_of_a_pack_with_a_wrong_checksum,
    nothing_stays_of_a_pusher_who_vanishes,
    each_ref_of_a_damaged_pack_is_told_so,
    an_empty_packet_is_answered,
    a_deploying_branch_cannot_be_deleted,
    a_tree_that_would_write_into_git_is_refused,
]


@pytest.mark.parametrize("closed", GAPS, ids=lambda gap: str(gap.__name__))
def test_a_gap_is_closed(closed: Callable[[Server], bool], door: Door) -> None:
    assert closed(Server(door.engine_room.apps["shop"].path, lambda: RawPush(door, "alice", "shop")))


@pytest.mark.parametrize("closed", GAPS, ids=lambda gap: str(gap.__name__))
def test_it_is_open_in_the_stock_server(closed: Callable[[Server], bool], tmp_path: Path) -> None:
    path = tmp_path / "stock.git"
    Repo.init_bare(str(path), mkdir=True).close()
    # Where it dies in the middle, the client cannot send on, or gets no answer, or one without what is looked for.
    with suppress(GitProtocolError, OSError, IndexError):
        assert not closed(Server(path, lambda: StockPush(path)))
