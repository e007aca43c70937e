"""Who watches a server asks it: is it ready, what is wrong, how much does it do. No app has to run for that."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from demo.person import Person
from demo.process import ProgramError
from demo.server import Server
from store.data_folder import DataFolder


def ask(server: Server, path: str, **headers: str) -> tuple[int, str]:
    """Return the status and the body of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://{server.api}{path}", headers=named)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def readiness(server: Server) -> tuple[int, dict[str, Any]]:
    status, body = ask(server, "/readyz")
    return status, json.loads(body)["checks"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(engine: str = "unix:///nowhere/secret-name.sock", **settings: str) -> Server:
        server = Server(tmp_path / "data", engine, settings)
        server.init(Person(tmp_path / "admin", "admin"))
        servers.append(server)
        server.start("--front-doors", "2")
        return server

    yield start
    for server in servers:
        server.stop()


def test_a_server_without_an_engine_is_up_but_not_ready_and_says_why(serve: Callable[..., Server]) -> None:
    server = serve()
    assert ask(server, "/healthz") == (200, "ok\n")
    status, body = ask(server, "/readyz")
    assert status == 503
    answer = json.loads(body)
    assert answer["ready"] is False
    wrong = {name: check["reason"] for name, check in answer["checks"].items() if not check["ok"]}
    assert set(wrong) == {"engine", "proxy"}
    assert "doctor" in wrong["engine"]
    assert "nowhere" not in body, "strangers learn where the engine is"
    assert str(server.data) not in body
    with pytest.raises(ProgramError, match="the server is not ready"):
        server.administer("ready")


def test_what_hangs_is_told_in_time_and_holds_up_nobody(serve: Callable[..., Server], tmp_path: Path) -> None:
    """An engine that takes connections and never answers, and records that somebody else keeps locked."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "engine.sock"))
        silent.listen(64)
        server = serve(f"unix://{tmp_path}/engine.sock")
        with closing(sqlite3.connect(DataFolder(server.data).database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            status, checks = readiness(server)
            assert status == 503
            assert "did not answer" in checks["engine"]["reason"]
            assert "did not answer" in checks["records"]["reason"]
            assert checks["front_doors"] == {"ok": True}
            other.execute("ROLLBACK")
        # A look takes seconds here, so whoever asks meanwhile shares one; commands and the like go on all the same.
        assert ask(server, "/healthz")[0] == 200
        assert "admin" in server.administer("users")


def test_metrics_are_for_this_machine_or_for_who_has_the_token(serve: Callable[..., Server], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-enough-token-for-this\n")
    server = serve()
    status, body = ask(server, "/metrics")
    assert status == 200
    assert 'slipway_up{part="engine"} 0.0' in body
    assert 'slipway_up{part="records"} 1.0' in body
    assert "slipway_front_doors 2.0" in body
    for process in ("supervisor", "engine", "front-0", "front-1"):
        assert f'slipway_process_open_fds{{process="{process}"}}' in body
    status, body = ask(server, "/metrics", X_Forwarded_For="192.0.2.7")
    assert status == 403, "a proxy on this machine makes everybody local"
    assert "slipway_up" not in body
    server.stop()
    server.start("--metrics-token-file", str(token))
    assert ask(server, "/metrics")[0] == 401
    assert ask(server, "/metrics", Authorization="Bearer guess")[0] == 401
    assert ask(server, "/metrics", Authorization=f"Bearer {token.read_text().strip()}")[0] == 200
    assert token.read_text().strip() not in server.log.read_text()
    server.stop()
    token.write_text("short\n")
    with pytest.raises(ProgramError, match="openssl rand"):
        server.start("--metrics-token-file", str(token))


def test_a_front_door_that_stops_working_is_missed(serve: Callable[..., Server]) -> None:
    """A killed one is started again, and what it has counted is still there."""
    server = serve()
    assert server.process
    with socket.create_connection((server.host, server.port), timeout=10) as stranger:
        assert stranger.recv(64).startswith(b"SSH-2.0-")
        assert _metric(server, "slipway_ssh_connections_accepted_total") == 1
        assert _metric(server, 'slipway_ssh_connections{state="logging_in"}') == 1
    doors = [int(pid) for pid in _children(server.process.pid) if _name(int(pid)) == "slipway-front"]
    assert len(doors) == 2
    for door in doors:
        os.kill(door, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while {*_children(server.process.pid)} & {str(door) for door in doors} or _metric(
        server, "slipway_front_doors"
    ) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert _metric(server, "slipway_ssh_connections_accepted_total") == 1


def _children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def _name(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text().strip()


def _metric(server: Server, name: str) -> float:
    _, body = ask(server, "/metrics")
    return float(next(line.split()[-1] for line in body.splitlines() if line.startswith(f"{name} ")))
