"""`git push -o …` with the real Git client."""

from __future__ import annotations

from hooks.pre_receive import ZERO
from tests.gitserver.conftest import Door, assert_sound, server_git, workspace
from tests.gitserver.test_receive_pack import FIRST, WHOLE
from tests.gitserver.wire import RawPush, new


def test_config_travels_with_the_code_and_is_not_logged(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    work.commit()
    work.git("push", "-o", "config=TOKEN=hunter2hunter2", "-o", "config=OLD=", "aptible", "main")
    assert door.engine_room.pushes[0]["options"] == ["config=TOKEN=hunter2hunter2", "config=OLD="]
    assert "hunter2" not in door.log()


def test_no_deploy_stores_beside_and_the_client_knows(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    running = work.commit()
    work.git("push", "aptible", "main")
    waiting = work.commit(text="not yet\n")
    stored = work.git("push", "-o", "no-deploy", "aptible", "main")
    assert "main -> stored/main" in stored.stderr
    assert "deploy --app shop --git-commitish stored/main" in stored.stderr
    assert server_git(either_door, "shop", "rev-parse", "main") == running
    assert server_git(either_door, "shop", "rev-parse", "stored/main") == waiting
    assert work.git("rev-parse", "aptible/main").stdout.strip() == running
    assert len(either_door.engine_room.pushes) == 1
    # Again, with another history, and then for good.
    work.git("commit", "-q", "--amend", "-m", "rewritten")
    work.git("push", "-o", "no-deploy", "aptible", "main")
    assert server_git(either_door, "shop", "rev-parse", "stored/main") == work.git("rev-parse", "main").stdout.strip()
    work.git("push", "aptible", "main")
    assert server_git(either_door, "shop", "rev-parse", "main") == work.git("rev-parse", "main").stdout.strip()
    assert len(either_door.engine_room.pushes) == 2
    assert_sound(either_door, "shop")


def test_no_deploy_in_an_atomic_push(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    commit = work.commit()
    work.git("push", "--atomic", "-o", "no-deploy", "aptible", "main", "main:other")
    assert server_git(door, "shop", "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/other",
        "refs/heads/stored/main",
    ]
    work.commit(text="more\n")
    clash = work.git("push", "-f", "-o", "no-deploy", "aptible", "main", "main:stored/main", ok=False)
    assert "more than once" in clash.stderr
    assert server_git(door, "shop", "rev-parse", "stored/main") == commit


def test_an_unknown_option_refuses_the_push_by_name(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    work.commit()
    refused = work.git("push", "-o", "ci.skip=hunter2hunter2", "aptible", "main", "main:other", ok=False)
    assert refused.stderr.count("there is no push option 'ci.skip'") == 2
    assert "config=KEY=VALUE" in refused.stderr
    assert "hunter2" not in refused.stderr + either_door.log()
    assert server_git(either_door, "shop", "for-each-ref") == ""


def test_config_is_refused_where_nothing_deploys(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    work.commit()
    refused = work.git("push", "-o", "config=A=1", "aptible", "main:stored", ok=False)
    assert "this push deploys nothing" in refused.stderr
    assert door.engine_room.pushes == []


def test_a_client_without_report_status_v2_is_told_what_it_understands(door: Door) -> None:
    raw = RawPush(door, "alice", "shop")
    raw.commands(new("refs/heads/main", FIRST), capabilities="report-status side-band-64k push-options")
    raw.protocol.write_pkt_line(b"no-deploy")
    raw.protocol.write_pkt_line(None)
    raw.send(WHOLE)
    raw.end()
    answer = raw.answer()
    assert answer.report == ["unpack ok", "ok refs/heads/main"]
    assert "Stored as stored/main" in answer.progress
    assert server_git(door, "shop", "for-each-ref", "--format=%(refname)") == "refs/heads/stored/main"


def test_the_report_says_where_it_went(door: Door) -> None:
    raw = RawPush(door, "alice", "shop")
    raw.commands(new("refs/heads/main", FIRST), capabilities="report-status-v2 side-band-64k push-options")
    raw.protocol.write_pkt_line(b"no-deploy")
    raw.protocol.write_pkt_line(None)
    raw.send(WHOLE)
    raw.end()
    assert raw.answer().report == [
        "unpack ok",
        "ok refs/heads/main",
        "option refname refs/heads/stored/main",
        f"option old-oid {ZERO}",
        f"option new-oid {FIRST.id.decode()}",
    ]
