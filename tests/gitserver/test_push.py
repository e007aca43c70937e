"""What users see of pushes, with the real Git and SSH clients."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from dulwich.objects import Blob

from gitserver import loose_objects
from gitserver.maintenance import SAMPLED_OBJECTS
from gitserver.small_pack import MAX_INFLATED_BYTES, MAX_PACK_BYTES, GitObject
from tests.gitserver.conftest import Door, assert_sound, eventually, server_git, stop_group, workspace


def test_a_push_to_a_deploying_branch_deploys_and_shows_the_log(either_door: Door) -> None:
    work = workspace(either_door, "alice", "live/shop")
    commit = work.commit()
    pushed = work.git("push", "aptible", "main")
    assert "remote: operation 1: deploying" in pushed.stderr
    assert "remote: http://127.0.0.1:1" in pushed.stderr
    assert server_git(either_door, "shop", "rev-parse", "main") == commit
    assert [push["ref"] for push in either_door.engine_room.pushes] == ["refs/heads/main"]
    second = work.commit(text="more\n")
    work.git("push", "aptible", "main")
    assert server_git(either_door, "shop", "rev-parse", "main") == second
    assert_sound(either_door, "shop")


def test_the_log_arrives_while_the_deploy_is_still_running(door: Door) -> None:
    door.engine_room.hold = True
    work = workspace(door, "alice", "shop")
    work.commit()
    push = work.start("push", "aptible", "main")
    assert push.stderr
    lines = iter(push.stderr)
    assert any("deploying" in line for line in lines)
    assert not door.engine_room.release.is_set()
    door.engine_room.release.set()
    rest = push.stderr.read()
    assert push.wait() == 0, rest


def test_a_failed_deploy_rejects_the_ref_and_the_branch_stays(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    first = work.commit()
    work.git("push", "aptible", "main")
    either_door.engine_room.deploy_fails = "the build failed at RUN make"
    work.commit(text="broken\n")
    pushed = work.git("push", "aptible", "main", ok=False)
    assert pushed.returncode != 0
    assert "! [remote rejected] main -> main (the build failed at RUN make)" in pushed.stderr
    assert server_git(either_door, "shop", "rev-parse", "main") == first
    either_door.engine_room.deploy_fails = None
    work.git("push", "aptible", "main")
    assert server_git(either_door, "shop", "rev-parse", "main") != first


def test_other_branches_and_tags_are_stored_and_not_deployed(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    first = work.commit()
    work.git("tag", "-a", "v1", "-m", "one")
    work.git("push", "aptible", "main:deploy-1", "v1")
    assert server_git(either_door, "shop", "rev-parse", "deploy-1") == first
    assert server_git(either_door, "shop", "rev-parse", "v1^{commit}") == first
    work.git("commit", "-q", "--amend", "-m", "rewritten")
    assert work.git("push", "aptible", "main:deploy-1", ok=False).returncode != 0
    work.git("push", "-f", "aptible", "main:deploy-1")
    assert server_git(either_door, "shop", "rev-parse", "deploy-1") == work.git("rev-parse", "main").stdout.strip()
    assert either_door.engine_room.pushes == []
    assert_sound(either_door, "shop")


def test_branches_are_deleted_packed_or_not_but_no_deploying_one(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    work.commit()
    work.git("push", "aptible", "main", "main:a/b", "main:c")
    server_git(either_door, "shop", "pack-refs", "--all")
    work.commit(text="newer\n")
    work.git("push", "aptible", "main:c")
    work.git("push", "aptible", ":a/b", ":c")
    assert server_git(either_door, "shop", "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    refused = work.git("push", "aptible", ":main", ok=False)
    assert "cannot be deleted" in refused.stderr
    # The folder that a/b was in is in nobody's way.
    work.git("push", "aptible", "main:a")
    assert_sound(either_door, "shop")


def test_a_name_cannot_be_a_branch_and_a_folder_of_branches(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    work.commit()
    work.git("push", "aptible", "main:one", "main:two/three")
    server_git(either_door, "shop", "pack-refs", "--all")
    for name in ("one/more", "two"):
        refused = work.git("push", "aptible", f"main:{name}", ok=False)
        assert "remote rejected" in refused.stderr
        assert "at once" in refused.stderr
    assert_sound(either_door, "shop")


def test_an_atomic_push_is_all_or_nothing(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    first = work.commit()
    work.git("push", "aptible", "main:one", "main:two/three")
    work.commit(text="two\n")
    refused = work.git("push", "--atomic", "aptible", "main:one", "main:two", ok=False)
    assert refused.returncode != 0
    assert server_git(either_door, "shop", "rev-parse", "one") == first
    work.git("push", "--atomic", "aptible", "main:one", "main:four", "main")
    assert (
        server_git(either_door, "shop", "rev-parse", "one", "four").split()
        == [server_git(either_door, "shop", "rev-parse", "main")] * 2
    )


def test_an_atomic_push_whose_deploy_fails_moves_nothing(either_door: Door) -> None:
    either_door.engine_room.deploy_fails = "unhealthy"
    work = workspace(either_door, "alice", "shop")
    work.commit()
    refused = work.git("push", "--atomic", "aptible", "main", "main:tagged", ok=False)
    assert "(unhealthy)" in refused.stderr
    assert server_git(either_door, "shop", "for-each-ref") == ""


def test_an_unknown_push_option_is_refused_by_name(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    work.commit()
    refused = work.git("push", "-o", "hurry", "aptible", "main", ok=False)
    assert "'hurry'" in refused.stderr
    assert door.engine_room.pushes == []
    assert_sound(door, "shop")


def test_the_servers_own_refs_are_neither_seen_nor_written(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    commit = work.commit()
    work.git("push", "aptible", "main")
    server_git(either_door, "shop", "update-ref", "refs/slipway/operations/1", commit)
    assert "slipway" not in work.git("ls-remote", "aptible").stdout
    assert "slipway" not in work.git("-c", "protocol.version=0", "ls-remote", "aptible").stdout
    refused = work.git("push", "aptible", "main:refs/slipway/operations/2", ok=False)
    assert "belongs to the server" in refused.stderr
    # A mirror push would delete what it saw and does not have.
    mirrored = work.git("push", "--mirror", "aptible", ok=False)
    assert "slipway" not in mirrored.stderr
    assert "HEAD" not in mirrored.stderr
    assert server_git(either_door, "shop", "rev-parse", "refs/slipway/operations/1") == commit


def test_a_thin_pack_is_completed(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    lines = [f"{number} of a long text that only changes a little\n" for number in range(2000)]
    work.commit(text="".join(lines))
    work.git("push", "aptible", "main:b")
    work.commit(text="".join(lines) + "one more\n")
    work.git("push", "--thin", "aptible", "main:b")
    assert_sound(either_door, "shop")


def test_ci_pushes_from_a_shallow_clone(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    work.commit()
    work.commit(text="second\n")
    work.git("push", "aptible", "main")
    work.git("clone", "-q", "--depth=1", either_door.url("shop.git"), "shallow")
    shallow = workspace(either_door, "alice", "shop", "other")
    shutil.rmtree(shallow.path)
    (work.path / "shallow").rename(shallow.path)
    commit = shallow.commit(text="third\n")
    shallow.git("push", "origin", "main")
    assert server_git(either_door, "shop", "rev-parse", "main") == commit
    assert server_git(either_door, "shop", "rev-list", "--count", "main") == "3"
    assert_sound(either_door, "shop")


def test_a_shallow_history_into_an_empty_repository_is_refused(either_door: Door) -> None:
    source = workspace(either_door, "alice", "shop")
    source.commit()
    source.commit(text="second\n")
    source.git("clone", "-q", "--depth=1", f"file://{source.path}", "shallow")
    source.path = source.path / "shallow"
    refused = source.git("push", either_door.url("shop.git"), "main", ok=False)
    assert "shallow update not allowed" in refused.stderr
    assert either_door.engine_room.pushes == []
    assert_sound(either_door, "shop")


def test_two_tenants_cannot_see_each_other(door: Door) -> None:
    work = workspace(door, "bob", "shop")
    work.commit()
    for words in (["push", "aptible", "main"], ["ls-remote", "aptible"]):
        refused = work.git(*words, ok=False)
        assert refused.returncode != 0
        assert "there is no app '/shop.git' for you" in refused.stderr
    nothing = work.git("ls-remote", door.url("no-such-app.git"), ok=False)
    assert nothing.stderr.replace("no-such-app", "shop") == refused.stderr


def test_a_pusher_who_is_killed_leaves_the_deploy_running(door: Door) -> None:
    before = door.settled()
    door.engine_room.hold = True
    work = workspace(door, "alice", "shop")
    commit = work.commit()
    push = work.start("push", "aptible", "main")
    assert door.engine_room.held.wait(30)
    stop_group(push)
    # The watching ends although the deploy says nothing.
    eventually(lambda: door.counts() == before, f"{before} became {door.counts()}")
    door.engine_room.release.set()
    eventually(lambda: server_git(door, "shop", "rev-parse", "-q", "--verify", "main", ok=False) == commit, "no deploy")
    assert_sound(door, "shop")


def test_ctrl_c_at_a_push_ends_the_watching(door: Door) -> None:
    before = door.settled()
    door.engine_room.hold = True
    work = workspace(door, "alice", "shop")
    work.commit()
    push = work.start("push", "aptible", "main")
    assert door.engine_room.held.wait(30)
    stop_group(push, signal.SIGINT)
    eventually(lambda: door.counts() == before, f"{before} became {door.counts()}")


def test_a_large_push_survives_new_keys_in_the_middle(door: Door, tmp_path: Path) -> None:
    work = workspace(door, "alice", "shop")
    work.env["GIT_SSH_COMMAND"] += " -o RekeyLimit=1M"
    # Incompressible, so that the pack is as large as the file.
    (work.path / "noise").write_bytes(random.Random(1).randbytes(20 << 20))
    work.commit()
    work.git("push", "aptible", "main:stored")
    assert_sound(door, "shop")
    work.git("clone", "-q", "-b", "stored", door.url("shop.git"), str(tmp_path / "back"))
    assert (tmp_path / "back" / "noise").read_bytes() == (work.path / "noise").read_bytes()


def test_a_repository_is_shared_with_c_gits_locks(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    work.commit()
    work.git("push", "aptible", "main:b")
    lock = door.engine_room.apps["shop"].path / "refs/heads/b.lock"
    lock.touch()
    work.commit(text="more\n")
    refused = work.git("push", "aptible", "main:b", ok=False)
    assert "another update of it is under way" in refused.stderr
    assert lock.exists()
    lock.unlink()
    work.git("push", "aptible", "main:b")


def test_draining_lets_a_push_finish_and_takes_no_new_one(start_door: Callable[..., Door]) -> None:
    door = start_door()
    door.engine_room.hold = True
    work = workspace(door, "alice", "shop")
    work.commit()
    push = work.start("push", "aptible", "main")
    assert door.engine_room.held.wait(30)
    door.process.terminate()
    eventually(lambda: "front_door.draining" in door.log(), "no draining")
    assert door.ssh("alice", "whoami").returncode == 255
    assert door.process.poll() is None
    door.engine_room.release.set()
    assert push.stderr
    assert push.wait() == 0, push.stderr.read()
    assert door.process.wait(30) == 0


def test_draining_has_an_end(start_door: Callable[..., Door]) -> None:
    door = start_door(drain_seconds=0.2)
    door.engine_room.hold = True
    work = workspace(door, "alice", "shop")
    work.commit()
    push = work.start("push", "aptible", "main")
    assert door.engine_room.held.wait(30)
    door.process.terminate()
    assert door.process.wait(30) == 0
    assert push.wait() != 0


def test_a_repository_is_tidied_up_behind_the_pushers_back(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    work.commit()
    work.git("push", "aptible", "main:b")
    path = door.engine_room.apps["shop"].path
    # As many loose objects as make Git's own estimate say that there are too many.
    count = 0
    for number in range(200_000):
        blob = Blob.from_string(b"%d" % number)
        if blob.id.startswith(b"17"):
            count += 1
            loose_objects.write(path / "objects", {blob.id: GitObject(b"blob", b"%d" % number)})
        if count > SAMPLED_OBJECTS:
            break
    head = work.commit(text="second\n")
    work.git("push", "aptible", "main:b")
    eventually(lambda: "maintenance.done" in door.log(), "nothing was tidied up")
    assert list((path / "objects/pack").glob("*.pack"))
    # What refs lead to has been packed.
    assert server_git(door, "shop", "rev-parse", "b") == head
    assert_sound(door, "shop")
    work.commit(text="third\n")
    work.git("push", "aptible", "main:b")
    assert_sound(door, "shop")


def test_a_push_goes_on_after_the_memory_of_a_small_pack_is_full(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    (work.path / "noise").write_bytes(random.Random(2).randbytes(MAX_PACK_BYTES + (1 << 20)))
    first = work.commit()
    work.git("push", "aptible", "main:b")
    (work.path / "zeros").write_bytes(bytes(MAX_INFLATED_BYTES * 2))
    second = work.commit()
    work.git("push", "aptible", "main:b", f"{first}:refs/heads/c")
    assert server_git(either_door, "shop", "rev-parse", "b", "c").split() == [second, first]
    assert_sound(either_door, "shop")


def test_a_project_with_submodules_and_attributes_is_taken(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    (work.path / ".gitattributes").write_text("*.png binary\n")
    (work.path / ".gitmodules").write_text('[submodule "lib"]\n\tpath = lib\n\turl = https://example.net/lib.git\n')
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lib")
    commit = work.commit()
    work.git("push", "aptible", "main:b")
    assert server_git(door, "shop", "rev-parse", "b") == commit
    (work.path / ".gitmodules").write_text('[submodule "lib"]\n\tpath = lib\n\turl = -u./payload\n')
    work.commit()
    refused = work.git("push", "aptible", "main:b", ok=False)
    assert "remote rejected" in refused.stderr
    assert server_git(door, "shop", "rev-parse", "b") == commit
    assert_sound(door, "shop")
