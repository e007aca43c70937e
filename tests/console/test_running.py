"""How a server is started for real: by a service manager, as a user of its own, on a folder that is private."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.person import Person
from demo.process import ProgramError
from demo.server import Server
from hooks.unix_http import short_address
from store.data_folder import DataFolder
from tests.world.faults import family
from tests.world.older_records import make_older
from tests.world.service_manager import Unit
from tests.world.unprivileged import USER, Unprivileged

NO_ENGINE = "unix:///nowhere/docker.sock"


@pytest.fixture
def taken_down() -> Iterator[Callable[[Server], None]]:
    """Have a server and its proxy stopped in the end; that the engine is away must not keep the proxy running."""
    servers: list[Server] = []
    yield servers.append
    for server in servers:
        server.stop()
        with pytest.raises(ProgramError, match="engine"):
            Server.administer(server, "down")  # as root, also where the server's user is another


def test_a_socket_for_a_port_that_is_no_setting_is_refused_with_a_sentence(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    unit = Unit(tmp_path / "unit", NO_ENGINE, {})
    try:
        unit.init(Person(tmp_path / "admin", "admin"))
        unit.api = f"127.0.0.1:{free_port()}"
        with pytest.raises(ProgramError, match="neither that of SLIPWAY_SSH nor that of SLIPWAY_API"):
            unit.start()
    finally:
        unit.close()


def test_front_doors_and_the_program_load_nothing_of_what_the_engine_room_needs() -> None:
    """It was two thirds of their memory, and made each command a second slower."""
    loaded = "import sys, console.program, console.supervisor; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "gitserver.front_door" in modules
    assert not {"docker", "fastapi", "sqlalchemy", "uvicorn"} & set(modules)


@pytest.mark.parametrize("name", ["", "config.key", "slipway.db", "ssh_host_ed25519_key"])
def test_a_server_does_not_start_on_what_others_may_read(tmp_path: Path, name: str) -> None:
    server = Server(tmp_path / "data", NO_ENGINE)
    server.init(Person(tmp_path / "admin", "admin"))
    path = server.data / name
    if not path.exists():
        path.write_text("")
    path.chmod(0o755)
    with pytest.raises(ProgramError, match=f"others may read {path}; mend it with: chmod go= {path}|chmod 600"):
        server.start()
    path.chmod(0o700)


def test_whatever_the_umask_is_nothing_that_is_made_is_for_others(
    tmp_path: Path, taken_down: Callable[[Server], None]
) -> None:
    server = Server(tmp_path / "data", NO_ENGINE)
    taken_down(server)
    before = os.umask(0o000)
    try:
        server.init(Person(tmp_path / "admin", "admin"))
        server.start()
    finally:
        os.umask(before)
    server.administer("apps:create", "shop", "--environment", "admin")
    assert server.process is not None
    for process in family(server.process.pid):
        # What is in memory does not come to the disk when a process crashes.
        assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{process}/limits").read_text())
    server.stop()
    open_to_others = [path for path in server.data.rglob("*") if path.lstat().st_mode & 0o077 and not path.is_socket()]
    assert open_to_others == []


def test_a_new_version_goes_on_with_older_records(tmp_path: Path, taken_down: Callable[[Server], None]) -> None:
    server = Server(tmp_path / "data", NO_ENGINE)
    taken_down(server)
    server.init(Person(tmp_path / "admin", "admin"))
    server.start()
    dora = Person(tmp_path / "dora", "dora")
    server.add_user(dora)
    assert dora.ssh("apps:create", "steady").returncode == 0
    server.stop()
    make_older(DataFolder(server.data), "0003")
    server.start()
    assert "steady" in dora.ssh("apps").stdout
    assert dora.ssh("apps:create", "newer").returncode == 0, "access was lost"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_server_that_is_not_root_serves_and_doctor_says_what_its_user_lacks(
    tmp_path: Path, taken_down: Callable[[Server], None]
) -> None:
    engine = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        with short_address(engine) as address:
            listening.bind(address)
        engine.chmod(0o660)
        os.chown(engine, 0, 4712)
        folder = tmp_path / "own"
        folder.mkdir()
        server = Unprivileged(folder / "data", f"unix://{engine}")
        taken_down(server)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)
        server.init(Person(tmp_path / "admin", "admin"))
        found = server.doctor("--domain", "apps.example.com", "--http", "127.0.0.1:80")
    assert f"PROBLEM  engine: {USER} may not use the engine's socket {engine}" in found
    assert f"usermod --append --groups 4712 {USER}" in found
    assert f"PROBLEM  proxy: {USER} may not listen on port 80" in found
    server.start()
    erin = Person(tmp_path / "erin", "erin")
    server.add_user(erin)
    assert erin.ssh("apps:create", "modest").returncode == 0
    assert [path for path in server.data.rglob("*") if path.lstat().st_uid != USER] == []


STOPPED_AT_ONCE = """
import os, signal, sys, time, types
from console.supervisor import Supervisor
supervisor = Supervisor(types.SimpleNamespace(log="console"))
supervisor._lifeline, supervisor._held = os.pipe()
signal.signal(signal.SIGTERM, supervisor._stop)
for _ in range(100):
    process = supervisor._fork("front", lambda: time.sleep(60))
    os.kill(process, signal.SIGTERM)
    signal.alarm(20)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGTERM
"""


def test_a_process_that_is_told_to_stop_before_it_has_begun_stops() -> None:
    """Whoever stops a server in the moment it is ready does not wait until it is killed."""
    done = subprocess.run([sys.executable, "-c", STOPPED_AT_ONCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
