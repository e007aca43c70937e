"""`slipway doctor` finds what is broken, says what to do, and finds nothing where nothing is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.person import Person
from demo.server import PROGRAM, Server
from tests.stories.web_app import create
from tests.world.working_copy import Repo


def doctor(server: Server, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [*PROGRAM, "doctor", "--data", str(server.data)]
    return subprocess.run(
        words, env=server.environment | environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def server(new_server: Callable[..., Server], person: Callable[[str], Person]) -> Server:
    server = new_server()
    carol = person("carol")
    server.add_user(carol)
    create(carol, "shop")
    copy = Repo(carol, "shop")
    copy.commit({"a": "b"})
    assert copy.push("master:stored").returncode == 0
    return server


def test_a_sound_server_is_found_sound(server: Server) -> None:
    done = doctor(server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROBLEM" not in done.stdout
    assert "ok       app shop: not deployed yet" in done.stdout
    assert "it is running" in done.stdout


def test_each_fault_is_found_and_named(server: Server) -> None:
    server.stop()
    objects = server.data / "repositories" / "1.git" / "objects"
    damaged = next(path for path in objects.rglob("*") if path.is_file() and path.parent.name != "info")
    kept = damaged.read_bytes()
    damaged.chmod(0o600)
    damaged.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert "PROBLEM  app shop: git fsck finds its repository damaged" in doctor(server).stdout
    damaged.write_bytes(kept)
    server.data.chmod(0o755)
    assert f"PROBLEM  data folder: others may read {server.data}" in doctor(server).stdout
    server.data.chmod(0o700)
    nowhere = doctor(server, DOCKER_HOST=f"unix://{server.data}/none.sock")
    assert nowhere.returncode == 1
    assert "PROBLEM  engine: " in nowhere.stdout
    key = server.data / "config.key"
    text = key.read_text()
    key.write_text("damaged")
    assert "PROBLEM  records: the config key" in doctor(server).stdout
    key.write_text(text)
    assert doctor(server).returncode == 0


def test_a_folder_that_is_none(tmp_path: Path, server: Server) -> None:
    words = [*PROGRAM, "doctor", "--data", str(tmp_path / "none")]
    done = subprocess.run(words, env=server.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "slipway init" in done.stdout
