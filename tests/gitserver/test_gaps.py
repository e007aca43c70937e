"""What dulwich's stock server of pushes gets wrong, each asked of it and of ours: it fails there, and not here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import dulwich.pack
import pytest
from dulwich.errors import GitProtocolError
from dulwich.objects import Blob, ObjectID
from dulwich.pack import apply_delta as dulwich_apply_delta
from dulwich.protocol import pkt_line
from dulwich.refs import Ref
from dulwich.repo import Repo

from gitserver import delta_chains, loose_objects
from gitserver.delta_chains import DeltaChains
from gitserver.limits import PushLimits
from gitserver.maintenance import SAMPLE
from gitserver.pack_stream import PackStream
from gitserver.side_band import KEEPALIVE_SECONDS
from gitserver.small_pack import GitObject
from hooks.pre_receive import ZERO
from tests.gitserver.conftest import Door, eventually
from tests.gitserver.stock import StockPush
from tests.gitserver.test_receive_pack import EMPTY, FILE, FILES, FIRST, SECOND, TREE, WHOLE
from tests.gitserver.test_small_pack import delta, entry, offset, packed
from tests.gitserver.wire import Answer, RawPush, blob, commit, new, pack, tree


@dataclass
class Server:
    """Somebody who takes pushes into a repository."""

    path: Path
    open: Callable[[], RawPush]
    begin_slow: Callable[[], None]
    """Let what comes after a push wait, once it has said something."""
    end_slow: Callable[[], None]
    patience: float
    """Seconds to wait for what may never come."""

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


def the_servers_own_refs_are_hidden(server: Server) -> bool:
    server.git("config", "transfer.hideRefs", "refs/slipway")
    server.holds("refs/slipway/releases/1")
    raw = server.open()
    raw.end()
    raw.answer()
    return not any(name.startswith("refs/slipway/") for name in raw.refs)


def a_refusal_by_policy_is_in_the_report(server: Server) -> bool:
    # The stock server asks a hook, this one has a policy: there are no such push options.
    hook = server.path / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    raw = server.open()
    raw.commands(new("refs/heads/b", FIRST), capabilities="report-status side-band-64k push-options")
    raw.send(pkt_line(b"nonsense") + pkt_line(None) if "push-options" in raw.capabilities else b"")
    return server.finish(raw, WHOLE).report[1].startswith("ng refs/heads/b")


def what_a_push_sets_off_is_seen_while_it_runs(server: Server) -> bool:
    server.begin_slow()
    raw = server.open()
    raw.commands(new("refs/heads/main", FIRST))
    raw.send(WHOLE)
    seen = raw.reads(b"deploying", server.patience)
    server.end_slow()
    raw.end()
    raw.answer()
    return seen


def a_long_silence_is_broken(server: Server) -> bool:
    server.begin_slow()
    raw = server.open()
    raw.commands(new("refs/heads/main", FIRST))
    raw.send(WHOLE)
    # An empty packet of the side band, after so many seconds.
    alive = raw.reads(b"0005\1", max(server.patience, KEEPALIVE_SECONDS + 1))
    server.end_slow()
    raw.end()
    raw.answer()
    return alive


def unpacking_shows_its_progress(server: Server) -> bool:
    first = entry(3, b"a file of some length\n" * 10)
    change = entry(6, delta(b"a file of some length\n" * 10, b"a file of some length\n" * 11), offset(len(first)))
    others = [entry(item.type_num, item.as_raw_string()) for item in (FILE, TREE, FIRST, *FILES.values())]
    return "Resolving deltas" in server.push(new("refs/heads/b", FIRST), data=packed(first, change, *others)).progress


def a_repository_is_tidied_up(server: Server) -> bool:
    with Repo(str(server.path)) as repo:
        for item in (FILE, TREE, FIRST):
            repo.object_store.add_object(item)
        repo.refs[Ref(b"refs/heads/b")] = ObjectID(FIRST.id)
        for number in range(20_000):
            extra = Blob.from_string(b"%d" % number)
            if extra.id.startswith(SAMPLE.encode()):
                repo.object_store.add_object(extra)
    loose = server.path / "objects" / FIRST.id.decode()[:2] / FIRST.id.decode()[2:]
    assert loose.exists()
    server.push(("refs/heads/b", FIRST.id.decode(), SECOND.id.decode()), data=pack(SECOND))
    # What a ref leads to is packed, and no longer lies there by itself.
    with suppress(AssertionError):
        eventually(lambda: not loose.exists(), "nothing was packed", seconds=server.patience)
    return not loose.exists()


def many_refs_come_in_few_packets(server: Server) -> bool:
    lines = "".join(f"create refs/heads/b{number} {FIRST.id.decode()}\n" for number in range(200))
    server.holds("refs/heads/b")
    subprocess.run(["git", "--git-dir", str(server.path), "update-ref", "--stdin"], check=True, input=lines.encode())
    raw = server.open()
    raw.end()
    raw.answer()
    return raw.packets < 20


def a_client_that_leaves_its_end_open_gets_its_answer(server: Server) -> bool:
    raw = server.open()
    raw.commands(new("refs/heads/b", FIRST))
    raw.send(WHOLE)
    answered = raw.reads(b"ok refs/heads/b", server.patience)
    raw.end()
    raw.answer()
    return answered


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
    the_servers_own_refs_are_hidden,
    a_refusal_by_policy_is_in_the_report,
    what_a_push_sets_off_is_seen_while_it_runs,
    a_long_silence_is_broken,
    unpacking_shows_its_progress,
    a_repository_is_tidied_up,
    many_refs_come_in_few_packets,
    a_client_that_leaves_its_end_open_gets_its_answer,
]


@pytest.mark.parametrize("closed", GAPS, ids=lambda gap: str(gap.__name__))
def test_a_gap_is_closed(closed: Callable[[Server], bool], door: Door) -> None:
    room = door.engine_room
    server = Server(
        room.apps["shop"].path,
        lambda: RawPush(door, "alice", "shop"),
        begin_slow=lambda: setattr(room, "hold", True),
        end_slow=room.release.set,
        patience=30,
    )
    assert closed(server)


@pytest.mark.parametrize("closed", GAPS, ids=lambda gap: str(gap.__name__))
def test_it_is_open_in_the_stock_server(closed: Callable[[Server], bool], tmp_path: Path) -> None:
    path = tmp_path / "stock.git"
    Repo.init_bare(str(path), mkdir=True).close()
    released = tmp_path / "released"

    def begin_slow() -> None:
        hook = path / "hooks/post-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho deploying\nuntil [ -e {released} ]; do sleep 0.05; done\n")
        hook.chmod(0o755)

    server = Server(path, lambda: StockPush(path), begin_slow, released.touch, patience=1)
    # Where it dies in the middle, the client cannot send on, or gets no answer, or one without what is looked for.
    with suppress(GitProtocolError, OSError, IndexError):
        assert not closed(server)


def test_each_delta_is_applied_once_where_there_is_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock server does it twice, once for the index and once for what it adds to a thin pack."""
    applied: list[int] = []

    def apply_delta(base: bytes, change: bytes) -> list[bytes]:
        applied.append(len(change))
        return list(dulwich_apply_delta(base, change))

    versions = [b"line %d\n" % number * 50 for number in range(6)]
    entries = [entry(3, versions[0])]
    for before, after in pairwise(versions):
        entries.append(entry(6, delta(before, after), offset(len(entries[-1]))))
    data = packed(*entries)

    monkeypatch.setattr(delta_chains, "apply_delta", apply_delta)
    with (tmp_path / "draft").open("x+b") as file:
        chains = DeltaChains(file, lambda oid: None, lambda item: None, PushLimits(), 1 << 20)
        for part in PackStream(lambda: b"", data, file, PushLimits(), 1 << 20).entries():
            chains.add(part)
        chains.resolve()
        chains.finish(tmp_path / "draft")
    assert len(applied) == len(versions) - 1

    applied.clear()
    monkeypatch.setattr(dulwich.pack, "apply_delta", apply_delta)
    stream = BytesIO(data)
    with Repo.init_bare(str(tmp_path / "stock.git"), mkdir=True) as repo:
        added = repo.object_store.add_thin_pack(stream.read, stream.read)
        for oid in added:
            added[oid].check()
    assert len(applied) > len(versions) - 1


def test_objects_are_on_the_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ref that moves next stands for what runs, after a power cut too. The stock server leaves it to the kernel."""
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        real_fsync(descriptor)

    real_fsync = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    item = GitObject(b"blob", b"text\n")
    loose_objects.write(tmp_path, {item.oid(): item})
    assert len(synced) == 1
    with Repo.init_bare(str(tmp_path / "stock.git"), mkdir=True) as repo:
        synced.clear()
        stream = BytesIO(WHOLE)
        repo.object_store.add_thin_pack(stream.read, stream.read)
    assert synced == []
