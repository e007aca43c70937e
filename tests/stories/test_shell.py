"""Somebody works in a container of their app: at a terminal, through pipes, and until they leave."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import docker
import pytest

from demo.person import HOST, Person
from demo.server import PROGRAM, Server
from tests.releaser.conftest import until
from tests.stories.web_app import files
from tests.world.working_copy import Repo

SIZE = "python3 -c 'import os; print(*os.get_terminal_size(0))'"
"""Prints columns and rows in a container."""

NewApp = Callable[[Person], Repo]


class AtTerminal:
    """A program at a pseudo-terminal of 100 columns and 30 rows, with somebody who types and reads."""

    def __init__(self, words: list[str], environment: Mapping[str, str]) -> None:
        self.said = b""
        self._status: int | None = None
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(words[0], words, {**environment, "TERM": "xterm-256color"})
        self.resize(100, 30)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str, seconds: float = 30) -> None:
        """Return once it has shown `text` since the last time that something was waited for."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.said:
            ready, _, _ = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, self.said
            self.said += os.read(self._terminal, 1 << 14)
        _, _, self.said = self.said.partition(text.encode())

    def end(self) -> int:
        """Wait for the program's end and return its exit status."""
        try:
            while os.read(self._terminal, 1 << 14):
                pass
        except OSError:  # a pseudo-terminal's way to tell that nobody has its other end any more (pty(7))
            pass
        return self.hang_up()

    def hang_up(self) -> int:
        """Close the terminal, whatever goes on there, and return the program's exit status."""
        if self._status is None:
            os.close(self._terminal)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


StartAtTerminal = Callable[[list[str], Mapping[str, str]], AtTerminal]


@pytest.fixture
def at_terminal() -> Iterator[StartAtTerminal]:
    """Start programs at a terminal; who is still there in the end leaves."""
    started: list[AtTerminal] = []

    def start(words: list[str], environment: Mapping[str, str]) -> AtTerminal:
        started.append(AtTerminal(words, environment))
        return started[-1]

    yield start
    for each in started:
        each.hang_up()


@pytest.fixture(scope="module")
def client(engine: str) -> Iterator[docker.DockerClient]:
    with closing(docker.DockerClient(engine)) as connected:
        yield connected


@pytest.fixture
def shop(alice: Person, new_app: NewApp, private_base: str) -> Repo:
    app = new_app(alice)
    app.commit(files(private_base, "one"))
    pushed = app.push("-o", "config=GREETING=hello", "master")
    assert pushed.returncode == 0, pushed.stderr
    return app


def visitors(client: docker.DockerClient) -> list[str]:
    """Return the containers for one command."""
    return [each["Id"] for each in client.api.containers(all=True, filters={"label": "slipway.one-off"})]


def test_a_shell_at_a_terminal(
    shop: Repo, alice: Person, client: docker.DockerClient, at_terminal: StartAtTerminal
) -> None:
    shell = at_terminal(["ssh", "-t", HOST, f"ssh --app {shop.app}"], alice.environment)
    shell.wait_for("# ")
    shell.type(f"echo re''ady $GREETING $TERM $({SIZE})\n")
    shell.wait_for("ready hello xterm-256color 100 30\r\n")
    assert len(visitors(client)) == 1
    shell.resize(120, 40)
    shell.type(f"until test \"$({SIZE})\" = '120 40'; do sleep 0.1; done; echo res''ized\n")
    shell.wait_for("resized\r\n")
    # Said by what is to be interrupted: before it has the terminal, the key would be the shell's.
    shell.type("sh -c \"echo wait''ing; exec sleep 600\"\n")
    shell.wait_for("waiting\r\n")
    shell.type("\x03")
    shell.wait_for("# ")
    shell.type("echo inter''rupted\n")
    shell.wait_for("interrupted\r\n")
    shell.type("exit 7\n")
    assert shell.end() == 7
    assert visitors(client) == []


def test_bytes_go_through_pipes_as_they_are(shop: Repo, alice: Person) -> None:
    dump = os.urandom(3_000_000)
    done = subprocess.run(
        ["ssh", HOST, f"ssh --app {shop.app} 'tee /tmp/x | sha256sum >&2; cat /tmp/x; exit 3'"],
        env=dict(alice.environment),
        input=dump,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3
    assert done.stdout == dump
    assert done.stderr.split() == [hashlib.sha256(dump).hexdigest().encode(), b"-"]
    script = alice.ssh("ssh", "--app", shop.app, stdin="echo from a script; exit 4\n")
    assert (script.stdout, script.returncode) == ("from a script\n", 4)


def test_whoever_goes_takes_the_container_along(shop: Repo, alice: Person, client: docker.DockerClient) -> None:
    """Also when the program reads none of the much that is typed."""
    ssh = subprocess.Popen(
        ["ssh", HOST, f"ssh --app {shop.app} 'echo begun; exec sleep 600'"],
        env=dict(alice.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert ssh.stdin
    assert ssh.stdout
    assert ssh.stdout.readline() == b"begun\n"
    os.set_blocking(ssh.stdin.fileno(), False)
    written = 0
    try:
        while written < 1 << 30:
            written += os.write(ssh.stdin.fileno(), bytes(1 << 16))
    except BlockingIOError:
        pass  # all is full on the way to the program
    ssh.kill()
    ssh.communicate()
    until(lambda: visitors(client) == [], 30)


def test_a_flood_ends_when_its_reader_goes(shop: Repo, alice: Person, client: docker.DockerClient) -> None:
    with subprocess.Popen(
        ["ssh", HOST, f"ssh --app {shop.app} 'echo begun; exec cat /dev/zero'"],
        env=dict(alice.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as ssh:
        assert ssh.stdout
        assert ssh.stdout.read(6) == b"begun\n"
        assert len(ssh.stdout.read(1 << 20)) == 1 << 20
        ssh.kill()
    until(lambda: visitors(client) == [], 30)


def test_a_shell_on_the_servers_own_machine(shop: Repo, slipway: Server, at_terminal: StartAtTerminal) -> None:
    words = [*PROGRAM, "ssh", "--app", shop.app, "--data", str(slipway.data)]
    shell = at_terminal(words, slipway.environment)
    shell.wait_for("# ")
    shell.type(f"echo re''ady $({SIZE})\n")
    shell.wait_for("ready 100 30\r\n")
    shell.resize(90, 20)
    shell.type(f"until test \"$({SIZE})\" = '90 20'; do sleep 0.1; done; exit 6\n")
    assert shell.end() == 6


def test_a_server_that_dies_leaves_no_container(
    alice: Person, shop: Repo, slipway: Server, client: docker.DockerClient, at_terminal: StartAtTerminal
) -> None:
    shell = at_terminal(["ssh", "-t", HOST, f"ssh --app {shop.app}"], alice.environment)
    shell.wait_for("# ")
    shell.type("echo re''ady\n")
    shell.wait_for("ready\r\n")
    slipway.kill()
    assert shell.end() != 0
    slipway.start()
    until(lambda: visitors(client) == [], 30)
