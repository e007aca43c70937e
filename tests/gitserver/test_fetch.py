"""Clone, fetch and ls-remote, with C git on the server and without."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest

from tests.gitserver.conftest import Door, eventually, server_git, workspace


@pytest.mark.parametrize("path", ["shop", "shop.git", "live/shop.git", "/live/shop"])
def test_a_repository_goes_by_several_names(door: Door, path: str) -> None:
    work = workspace(door, "alice", "shop")
    assert work.git("ls-remote", f"ssh://git@127.0.0.1:{door.port}/{path.lstrip('/')}").stdout == ""


def test_clone_and_fetch(either_door: Door) -> None:
    work = workspace(either_door, "alice", "shop")
    first = work.commit()
    work.git("tag", "-a", "v1", "-m", "one")
    work.git("push", "aptible", "main", "v1")
    work.git("clone", "-q", either_door.url("live/shop.git"), "clone")
    work.path /= "clone"
    assert work.git("rev-parse", "HEAD", "v1^{commit}").stdout.split() == [first, first]
    second = work.commit(text="more\n")
    work.git("push", "origin", "main")
    work.path = work.path.parent
    work.git("fetch", "-q", "aptible")
    assert work.git("rev-parse", "aptible/main").stdout.strip() == second


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_protocol_versions(door: Door, version: str) -> None:
    work = workspace(door, "alice", "shop")
    work.commit()
    work.git("push", "aptible", "main")
    work.env["GIT_TRACE_PACKET"] = "1"
    listed = work.git("-c", f"protocol.version={version}", "ls-remote", "aptible")
    assert "refs/heads/main" in listed.stdout
    assert ("< version 2" in listed.stderr) == (version == "2")
    work.git("-c", f"protocol.version={version}", "clone", "-q", "--depth", "1", door.url("shop.git"), "clone")


def test_git_spelled_with_a_space(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    work.commit()
    work.git("push", "aptible", "main")
    done = door.ssh("alice", "git upload-pack '/live/shop.git'", stdin=b"0000")
    assert done.returncode == 0
    assert b"refs/heads/main" in done.stdout


def test_a_fetch_that_is_killed_leaves_nothing_running(door: Door) -> None:
    work = workspace(door, "alice", "shop")
    (work.path / "noise").write_bytes(random.Random(1).randbytes(32 << 20))
    work.commit()
    work.git("push", "aptible", "main:stored")
    before = door.settled()
    # The client reads the advertisement and no more, so the server's child is in the middle of something.
    words = [*door.ssh_words("alice"), "git@127.0.0.1", "git-upload-pack 'shop'"]
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin
    assert client.stdout
    assert client.stdout.read(4)
    commit = server_git(door, "shop", "rev-parse", "stored")
    client.stdin.write(f"0032want {commit}\n00000009done\n".encode())
    client.stdin.flush()
    eventually(lambda: door.counts()[2] > before[2], "no child was started")
    client.kill()
    client.wait()
    eventually(lambda: door.counts() == before, f"{before} became {door.counts()}")


def test_rubbish_in_place_of_a_fetch(either_door: Door) -> None:
    done = either_door.ssh("alice", "git-upload-pack 'shop'", stdin=b"zzzz")
    assert done.returncode not in (0, 255)
    assert either_door.ssh("alice", "whoami").returncode == 0


def test_a_client_that_floods_a_program_that_does_not_read_is_got_rid_of(start_door: Callable[..., Door]) -> None:
    door = start_door(idle_seconds=3)
    work = workspace(door, "alice", "shop")
    (work.path / "noise").write_bytes(random.Random(1).randbytes(16 << 20))
    work.commit()
    work.git("push", "aptible", "main:stored")
    client = door.client("alice")
    channel = client.open_session(window_size=1 << 15)
    channel.exec_command("git-upload-pack 'shop'")
    assert channel.recv(4)
    commit = server_git(door, "shop", "rev-parse", "stored")
    channel.sendall(f"0032want {commit}\n00000009done\n".encode())
    # The program sends its pack, which is not read here, and so does not read; more than its pipe and the first window
    # hold makes the connection's own thread wait for it.
    flood = threading.Thread(target=send_for_good, args=(channel,), daemon=True)
    flood.start()
    eventually(lambda: waits_for_a_pipe(door), "nothing waits")
    eventually(lambda: not waits_for_a_pipe(door), "it waits for good")
    client.close()
    assert door.settled()[2] == 0


def send_for_good(channel: paramiko.Channel) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):
        while True:
            channel.sendall(bytes(1 << 16))


def waits_for_a_pipe(door: Door) -> bool:
    """Tell whether a thread of the front door waits for room in a pipe."""
    tasks = Path(f"/proc/{door.process.pid}/task")
    return any("pipe_write" in (task / "wchan").read_text() for task in tasks.iterdir())
