"""How a server is started for real: by a service manager, as a user of its own, on a folder that is private."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.person import Person
from demo.process import ProgramError
from demo.server import Server
from tests.world.service_manager import Unit

NO_ENGINE = "unix:///nowhere/docker.sock"


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


def test_whatever_the_umask_is_nothing_that_is_made_is_for_others(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", NO_ENGINE)
    before = os.umask(0o000)
    try:
        server.init(Person(tmp_path / "admin", "admin"))
        server.start()
    finally:
        os.umask(before)
    server.administer("apps:create", "shop", "--environment", "admin")
    server.stop()
    open_to_others = [path for path in server.data.rglob("*") if path.lstat().st_mode & 0o077 and not path.is_socket()]
    assert open_to_others == []
