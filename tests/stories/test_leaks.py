"""A hunt for secrets that were planted through every door, wherever the server could have left them, in any shape."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest

from demo.person import Person
from demo.process import ProgramError
from demo.registry import Registry
from demo.server import PROGRAM, Server
from tests.stories.test_secrets import forms, places
from tests.stories.web_app import answer, create, files, read, show
from tests.world.working_copy import Repo

BY = {
    door: f"{door}-Pl4nted+{number}/'x\" y=%"
    for number, door in enumerate(
        (
            "argument", "input", "pushoption", "password", "auth", "sshword", "mistake", "badpair", "badoption",
            "nocommand",
        )
    )
}  # fmt: skip

SHOUTS = """\
import base64, json, os, shlex, sys, urllib.parse
values = list(os.environ.values())
print(*values, repr(values), json.dumps(dict(os.environ)), *map(shlex.quote, values), sep="\\n", flush=True)
print(*(urllib.parse.quote(value, safe="") for value in values), sep="\\n", flush=True)
print(base64.b64encode("\\n".join(values).encode()).decode(), file=sys.stderr, flush=True)
for value in values:
    for piece in (value[:5], value[5:]):
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()
raise SystemExit(1)
"""


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


class Descendants:
    """What the arguments and environments of a process's descendants have been."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.arguments: set[bytes] = set()
        self.environments: dict[bytes, bytes] = {}
        """Of programs that were executed, by their name; a fork has its parent's."""

    def look(self) -> None:
        children: dict[int, list[int]] = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                children.setdefault(int(status.read_text().rpartition(")")[2].split()[1]), []).append(
                    int(status.parent.name)
                )
        wanted = [self._root]
        for number in wanted:
            wanted += children.get(number, [])
            with suppress(OSError):
                arguments = Path(f"/proc/{number}/cmdline").read_bytes()
                self.arguments.add(arguments)
                if b"console.program" not in arguments:
                    self.environments[arguments] = Path(f"/proc/{number}/environ").read_bytes()

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.01):
                self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def rotate(server: Server, new: str) -> str:
    done = subprocess.run(
        [*PROGRAM, "rotate-key", "--data", str(server.data)],
        env=server.environment, input=new, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


class Tenant:
    """Somebody who hands over secrets through every door, and keeps all that they are shown."""

    def __init__(self, person: Person, registry: Registry, private_base: str) -> None:
        self.person = person
        self.shown = ""
        self._registry = registry
        create(person, "vault", registry.username, registry.password.reveal())
        self._vault = Repo(person, "vault")
        self._vault.commit(files(private_base, "one"))

    def run(self, *words: str, stdin: str = "") -> int:
        """Run a command over SSH and return its exit status."""
        done = self.person.ssh(*words, stdin=stdin)
        self.shown += done.stdout + done.stderr
        return done.returncode

    def push(self, *options: str) -> bool:
        """Push master; return whether it was taken."""
        done = self._vault.push(*options, "master")
        self.shown += done.stdout + done.stderr
        return done.returncode == 0

    def hand_over(self) -> None:
        """Give config in every way that there is."""
        assert self.run("config:set", "--app", "vault", f"ARGUMENT={BY['argument']}") == 0
        quoted = BY["input"].replace("\\", "\\\\").replace('"', '\\"')
        assert self.run("config:set", "--app", "vault", "-", stdin=f'INPUT="{quoted}"\n') == 0
        assert self.push(f"--push-option=config=OPTION={BY['pushoption']}")

    def shout(self) -> None:
        """Have an app print all it knows, in every shape, and fail."""
        self._vault.commit({"server.py": SHOUTS})
        assert not self.push()
        assert "[secret]" in self.shown
        assert self.run("ssh", "--app", "vault", "python3", "-c", f"print({BY['sshword']!r} == 1)") == 0

    def blunder(self) -> None:
        """Make the mistakes that would quote a secret."""
        image = f"{self._registry.host}/private/none:1"
        deploy = ("deploy", "--app", "vault", "--docker-image", image, "--git-detach")
        assert self.run(*deploy, "--private-registry-username", "u", "--private-registry-password", BY["password"]) == 1
        auth = base64.b64encode(f"u:{BY['auth']}".encode()).decode()
        auths = json.dumps({"auths": {self._registry.host: {"auth": auth}}})
        without = ("APTIBLE_PRIVATE_REGISTRY_USERNAME=", "APTIBLE_PRIVATE_REGISTRY_PASSWORD=")
        assert self.run(*deploy, f"DOCKER_AUTH_CONFIG={auths}", *without) == 1
        assert self.run("config:set", "--app", "vault", BY["mistake"]) == 2
        assert self.run("config:set", "--app", "vault", f"9BAD={BY['badpair']}") == 2
        assert self.run(BY["nocommand"]) == 2
        self._vault.commit({"version": "never"})
        assert not self.push(f"--push-option={BY['badoption']}")
        assert self.run("logs", "--app", "vault", "--no-follow") == 0
        assert self.run("audit", "--app", "vault") == 0


def test_secrets_from_every_door_are_found_only_where_they_belong(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    registry: Registry,
    private_base: str,
    engine: str,
    tmp_path: Path,
) -> None:
    first_key, second_key = key(), key()
    server = new_server(SLIPWAY_LOG="json", SLIPWAY_SECRET_KEY=first_key)
    carol, dan = person("carol"), person("dan")
    for each in (carol, dan):
        server.add_user(each)
    create(dan, "neighbour", registry.username, registry.password.reveal())
    theirs = Repo(dan, "neighbour")
    theirs.commit(files(private_base, "theirs"))
    assert server.process is not None
    seen = Descendants(server.process.pid)
    archive = tmp_path / "backup.tar.gz"
    with seen.watched():
        assert theirs.push().returncode == 0
        tenant = Tenant(carol, registry, private_base)
        tenant.hand_over()
        environment = answer(show(carol, "vault")["url"])["environment"]
        for name, door in {"ARGUMENT": "argument", "INPUT": "input", "OPTION": "pushoption"}.items():
            assert environment[name] == BY[door]
        tenant.shout()
        tenant.blunder()
        assert "opens nothing any more" in rotate(server, second_key)
        server.administer("backup", archive)

    hunt_on_the_engine(engine, environment["HOSTNAME"], first_key)
    for arguments in seen.arguments:
        assert_clean(arguments, "arguments")
    assert seen.arguments, "nothing was looked at"
    for arguments, environ in seen.environments.items():
        assert_clean(environ, f"environment of {arguments!r}")
    assert_clean(tenant.shown.encode(), "what a user was shown")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "backup", filter="data")
    everything = (*BY.values(), first_key, second_key, registry.password.reveal())
    assert places(tmp_path / "backup", *everything) == []
    assert places(server.data, *everything) == []
    server.stop()
    assert places(server.data, *everything) == []
    assert_clean(server.log.read_bytes(), "the server's log")
    # The former key is of no use, and whoever starts with it is told so; the new one brings everything back.
    with pytest.raises(ProgramError, match="use the new one"):
        server.administer("rotate-key")
    server.environment["SLIPWAY_SECRET_KEY"] = second_key
    server.start()
    assert read(carol, "config", "--app", "vault")["INPUT"] == BY["input"]


def hunt_on_the_engine(engine: str, owner: str, secret_key: str) -> None:
    """Look through every container and image; `owner` is the host name of the container that may know its config."""
    with docker.APIClient(engine) as client:
        for each in client.containers(all=True):
            inspected = json.dumps(client.inspect_container(each["Id"]))
            assert secret_key not in inspected
            if not each["Id"].startswith(owner):
                assert_clean(inspected.encode(), f"container {each['Names']}")
        for image in client.images():
            history = json.dumps([client.history(image["Id"]), client.inspect_image(image["Id"])])
            assert_clean(history.encode(), f"image {image['RepoTags']}")


def assert_clean(text: bytes, where: str) -> None:
    for secret in BY.values():
        assert not [form for form in forms(secret) if form in text], where
