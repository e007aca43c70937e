from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
import pytest
from hypothesis import settings

from gitserver import host_key
from tests.gitserver.scripted_engine_room import ScriptedEngineRoom

ROOT = Path(__file__).parents[2]

# Parsers are tried with this many inputs each: 100 as a rule, and any number of them where somebody has the time. A
# busy machine may stop for longer than an input should take.
settings.register_profile("parsers", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")), deadline=None)
settings.load_profile("parsers")


def make_key(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair with OpenSSH, and return the public one without its comment."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def eventually(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that another process does in its own time."""
    deadline = time.monotonic() + seconds  # reached only where it fails; a busy machine takes its time
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass
class Door:
    """A front door in a process of its own, with the engine room that it asks."""

    process: subprocess.Popen[bytes]
    port: int
    engine_room: ScriptedEngineRoom
    folder: Path
    log_path: Path
    users: dict[str, Path] = field(default_factory=dict)

    def ssh_words(self, user: str | Path, *options: str) -> list[str]:
        key = user if isinstance(user, Path) else self.users[user]
        known = self.folder / "known_hosts"
        return [
            "ssh", "-F", "none", "-p", str(self.port), "-i", str(key), *options,
            "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes",
        ]  # fmt: skip

    def ssh(
        self, user: str | Path, *words: str, options: Sequence[str] = (), stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        command = [*self.ssh_words(user, *options), "git@127.0.0.1", *words]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)

    def git_env(self, user: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSH_COMMAND": " ".join(self.ssh_words(user)),
            **{
                f"GIT_{who}_{what}": "someone@example.net"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def url(self, path: str) -> str:
        return f"ssh://git@127.0.0.1:{self.port}/{path}"

    def client(self, user: str) -> paramiko.Transport:
        """Connect with an independent client that lets a test say what it likes."""
        transport = paramiko.Transport(("127.0.0.1", self.port))
        transport.connect(username="git", pkey=paramiko.Ed25519Key(filename=str(self.users[user])))
        return transport

    def log(self) -> str:
        return self.log_path.read_text()

    def settled(self) -> tuple[int, int, int]:
        """Return the counts with no connection open, for later ones to be compared with."""
        assert self.ssh("alice", "whoami").returncode == 0
        eventually(lambda: self.log().count("connection.closed") == self.log().count("connection.opened"), "still open")
        # Its last words come shortly before a connection's thread is gone.
        eventually(lambda: self.counts()[0] == 1, "a thread of a closed connection goes on")
        return self.counts()

    def counts(self) -> tuple[int, int, int]:
        """Return the process's numbers of threads, open descriptors and children."""
        proc = Path(f"/proc/{self.process.pid}")
        threads = list((proc / "task").iterdir())
        children = 0
        for thread in threads:
            # A thread may end between being listed and being read.
            with suppress(FileNotFoundError, ProcessLookupError):
                children += len((thread / "children").read_text().split())
        return len(threads), len(list((proc / "fd").iterdir())), children


@pytest.fixture
def start_door(tmp_path: Path) -> Iterator[Callable[..., Door]]:
    doors: list[Door] = []

    def start(*, with_git: bool = True, drain_seconds: float = 30, **limits: float) -> Door:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = listener.getsockname()[1]
        engine_room = ScriptedEngineRoom(tmp_path / "engine.sock")
        engine_room.start()
        key = tmp_path / "host_key"
        host_key.make_or_load(key)
        public = host_key.load(key)
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {public.get_name()} {public.get_base64()}\n")
        nowhere = tmp_path / "nothing-installed"
        nowhere.mkdir(exist_ok=True)
        log_path = tmp_path / "front_door.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable, str(Path(__file__).with_name("front_door_process.py")),
                    str(listener.fileno()), str(engine_room.socket_path), str(key), str(drain_seconds),
                    json.dumps(limits),
                ],
                pass_fds=[listener.fileno()],
                env={"PATH": os.environ["PATH"] if with_git else str(nowhere), "PYTHONPATH": str(ROOT)},
                stderr=log,
            )  # fmt: skip
        listener.close()
        door = Door(process, port, engine_room, tmp_path, log_path)
        doors.append(door)
        for number, name in enumerate(["alice", "bob"]):
            door.users[name] = tmp_path / f"id_{name}"
            engine_room.keys[make_key(door.users[name])] = name
            engine_room.users.insert(number, name)
        engine_room.add_app("alice", "shop", tmp_path / "shop.git")
        engine_room.add_app("bob", "bank", tmp_path / "bank.git")
        return door

    yield start
    for door in doors:
        door.engine_room.release.set()
        if door.process.poll() is None:
            door.process.kill()
        door.process.wait()
        door.engine_room.stop()
        assert "Traceback" not in door.log()
        assert "session.crashed" not in door.log()


@pytest.fixture
def door(start_door: Callable[..., Door]) -> Door:
    return start_door()


@pytest.fixture(params=["git", "dulwich"])
def either_door(start_door: Callable[..., Door], request: pytest.FixtureRequest) -> Door:
    """A front door on a machine with C git, and one without."""
    return start_door(with_git=request.param == "git")


@dataclass
class Workspace:
    """A user's clone, and Git in it."""

    path: Path
    env: dict[str, str]

    def git(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", *words], cwd=self.path, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert not ok or done.returncode == 0, done.stderr
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["git", *words], cwd=self.path, env=self.env, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def commit(self, name: str = "file", text: str = "text\n") -> str:
        (self.path / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"change {name}")
        return self.git("rev-parse", "HEAD").stdout.strip()


def workspace(door: Door, user: str, app: str, folder: str = "work") -> Workspace:
    path = door.folder / folder
    path.mkdir()
    work = Workspace(path, door.git_env(user))
    work.git("init", "-q", "-b", "main")
    work.git("remote", "add", "aptible", door.url(f"{app}.git"))
    return work


def server_git(door: Door, app: str, *words: str, ok: bool = True) -> str:
    path = door.engine_room.apps[app].path
    done = subprocess.run(["git", "--git-dir", str(path), *words], capture_output=True, text=True, check=False)
    assert not ok or done.returncode == 0, done.stderr
    return done.stdout.strip()


def assert_sound(door: Door, app: str) -> None:
    """The repository is whole, and nothing of an unfinished push is left in it."""
    server_git(door, app, "fsck", "--strict", "--full")
    objects = door.engine_room.apps[app].path / "objects"
    eventually(lambda: not list(objects.rglob("tmp_*")), "a quarantine stayed behind")
    assert not list(door.engine_room.apps[app].path.rglob("*.lock"))


def stop_group(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    os.killpg(process.pid, number)
    process.wait()
