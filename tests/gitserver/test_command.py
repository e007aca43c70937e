"""User commands over SSH: their streams, their exit status, and what happens when the user leaves."""

from __future__ import annotations

import subprocess

from gitserver.command import MAX_INPUT_BYTES
from tests.gitserver.conftest import Door, eventually


def test_output_errors_and_exit_status_arrive_apart(door: Door) -> None:
    done = door.ssh("alice", "whoami")
    assert (done.stdout, done.stderr, done.returncode) == (b"alice\n", b"", 0)
    done = door.ssh("alice", "frobnicate")
    assert done.stdout == b""
    assert done.stderr == b"the details\n'frobnicate' is not a command\n"
    assert done.returncode == 2


def test_a_command_reads_standard_input_only_if_it_wants_to(door: Door) -> None:
    assert (
        door.ssh("alice", "config:set", "--app", "shop", "-", stdin="KEY=wert ü\n".encode()).stdout
        == b"11 characters\n"
    )
    assert door.ssh("alice", "config:set", options=["-n"]).stdout == b"0 characters\n"
    assert door.ssh("alice", "whoami", options=["-n"]).stdout == b"alice\n"


def test_standard_input_is_bounded_and_text(door: Door) -> None:
    done = door.ssh("alice", "config:set", stdin=b"x" * MAX_INPUT_BYTES)
    assert done.stdout == f"{MAX_INPUT_BYTES} characters\n".encode()
    done = door.ssh("alice", "config:set", stdin=b"x" * (MAX_INPUT_BYTES + 1))
    assert done.returncode == 2
    assert b"longer than 16 MiB" in done.stderr
    done = door.ssh("alice", "config:set", stdin=b"KEY=\xff\n")
    assert done.returncode == 2
    assert b"not UTF-8 at byte 4" in done.stderr


def test_a_command_that_is_not_text_is_refused(door: Door) -> None:
    channel = door.client("alice").open_session()
    channel.exec_command(b"whoami \xff")
    assert channel.recv_exit_status() == 2
    assert b"UTF-8" in channel.makefile_stderr("rb").read()


def test_a_reader_that_stops_early_does_not_hang(door: Door) -> None:
    command = " ".join([*door.ssh_words("alice"), "git@127.0.0.1", "many", "50000"])
    piped = subprocess.run(f"{command} | head -n 1", shell=True, capture_output=True, timeout=60, check=False)
    assert piped.stdout == b"line 0\n"


def test_a_client_that_leaves_is_no_longer_served_and_nothing_leaks(door: Door) -> None:
    before = door.settled()
    door.engine_room.hold = True
    client = subprocess.Popen([*door.ssh_words("alice"), "git@127.0.0.1", "slow"], stdout=subprocess.PIPE)
    assert client.stdout
    assert client.stdout.readline() == b"begun\n"
    assert door.engine_room.held.wait(20)
    client.kill()
    client.wait()
    eventually(lambda: door.counts() == before, f"{before} became {door.counts()}")
    door.engine_room.release.set()
    eventually(lambda: "session.client_gone" in door.log(), "not noticed")


def test_control_c_in_a_terminal_ends_the_session(door: Door) -> None:
    door.engine_room.hold = True
    channel = door.client("alice").open_session()
    channel.get_pty()
    channel.exec_command("slow")
    assert channel.makefile("rb").readline() == b"begun\r\n"
    channel.sendall(b"\x03")
    assert channel.recv_exit_status() == 1
    assert not door.engine_room.release.is_set()


def test_an_answer_that_breaks_off_is_an_error(door: Door) -> None:
    done = door.ssh("alice", "crash")
    assert done.returncode == 1
    assert b"stopped while it was answering" in done.stderr


def test_the_words_of_a_command_are_not_logged(door: Door) -> None:
    door.ssh("alice", "config:set", "TOKEN=hunter2", stdin=b"")
    eventually(lambda: '"command": "config:set"' in door.log(), "not logged")
    assert "hunter2" not in door.log()


def test_git_services_take_one_repository(door: Door) -> None:
    for line in (
        "git-upload-pack",
        "git-receive-pack 'a' 'b'",
        "git upload-pack --strict 'shop'",
        "git-upload-pack 'x",
    ):
        done = door.ssh("alice", line)
        assert done.returncode == 2, line
        assert b"takes one repository" in done.stderr
