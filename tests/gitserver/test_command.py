"""User commands over SSH: their streams, their exit status, and what happens when the user leaves."""

from __future__ import annotations

import random
import subprocess

from gitserver.command import MAX_INPUT_BYTES
from hooks.command_input import WINDOW_BYTES
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


def test_a_program_reads_and_writes_bytes_as_they_are(door: Door) -> None:
    typed = random.Random(1).randbytes(3 * WINDOW_BYTES + 1)
    done = door.ssh("alice", "attach", stdin=typed)
    assert done.stdout == typed
    assert done.stderr == b"None\nattached\n"
    assert done.returncode == 5


def test_a_program_at_a_terminal_gets_every_key_and_the_terminals_size(door: Door) -> None:
    channel = door.client("alice").open_session()
    channel.get_pty("xterm-256color", 100, 30)
    channel.exec_command("attach")
    errors = channel.makefile_stderr("rb")
    assert errors.readline() == b"['xterm-256color', 100, 30]\n"
    assert errors.readline() == b"attached\n"
    channel.sendall(b"a\x03b\n")
    assert channel.makefile("rb").read(4) == b"a\x03b\n", "no line end is changed, and Ctrl-C is a key like others"
    channel.resize_pty(120, 40)
    assert errors.readline() == b"{'columns': 120, 'rows': 40}\n"
    channel.shutdown_write()
    assert channel.recv_exit_status() == 5


def test_what_is_typed_before_the_program_is_there_reaches_it(door: Door) -> None:
    door.engine_room.hold = True
    channel = door.client("alice").open_session()
    channel.get_pty("../../etc/passwd", 0, 0)
    channel.exec_command("attach")
    assert channel.makefile_stderr("rb").readline() == b"['dumb', 80, 24]\n"
    assert door.engine_room.held.wait(20)
    channel.sendall(b"early\n")
    channel.shutdown_write()
    door.engine_room.release.set()
    assert channel.makefile("rb").read() == b"early\n"
    assert channel.recv_exit_status() == 5


def test_whoever_leaves_a_program_leaves_nothing_behind(door: Door) -> None:
    before = door.settled()
    client = subprocess.Popen(
        [*door.ssh_words("alice", "-tt"), "git@127.0.0.1", "attach"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert client.stdin
    assert client.stdout
    client.stdin.write(b"x")
    client.stdin.flush()
    assert client.stdout.read(1) == b"x"
    client.kill()
    client.communicate()
    eventually(lambda: door.counts() == before, f"{before} became {door.counts()}")
