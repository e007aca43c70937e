"""The server needs no root: a user of its own, in the group of the engine's socket, serves, deploys and restarts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.person import Person
from tests.stories import web_app
from tests.world.unprivileged import USER, Unprivileged
from tests.world.working_copy import Repo

DOCKER_GROUP = 4712
"""Nobody has to have made it."""


@pytest.fixture
def server(engine: str, base_image: str, world_folder: Path) -> Iterator[Unprivileged]:
    # Git asks with access(2), which no capability helps: every folder above the data is that user's, or everybody's.
    folder = Path(tempfile.mkdtemp(prefix="slipway-own-"))
    server = Unprivileged(folder / "data", engine, {"SLIPWAY_LOCAL_IMAGES": base_image})
    socket = Path(engine.removeprefix("unix://"))
    before = socket.stat()
    os.chown(socket, 0, DOCKER_GROUP)
    socket.chmod(0o660)
    server.group = DOCKER_GROUP
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    server.init(Person(world_folder / "own-user-admin", "admin"))
    yield server
    server.down()
    os.chown(socket, before.st_uid, before.st_gid)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_in_the_group_of_the_engines_socket_serves_deploys_and_restarts(
    server: Unprivileged, base_image: str, world_folder: Path
) -> None:
    assert "PROBLEM" not in server.doctor()
    server.start()
    erin = Person(world_folder / "erin", "erin")
    server.add_user(erin)
    web_app.create(erin, "modest")
    repo = Repo(erin, "modest")
    repo.commit(web_app.files(base_image, "1"))
    pushed = repo.push()
    assert pushed.returncode == 0, pushed.stderr
    address = web_app.show(erin, "modest")["url"]
    assert web_app.answer(address)["version"] == "1"
    proxy = int((server.data / "proxy" / "haproxy.pid").read_text())
    assert Path(f"/proc/{proxy}").stat().st_uid == USER

    server.stop()
    assert web_app.answer(address)["version"] == "1"
    server.start()
    assert int((server.data / "proxy" / "haproxy.pid").read_text()) == proxy
    repo.commit(web_app.files(base_image, "2"))
    pushed = repo.push()
    assert pushed.returncode == 0, pushed.stderr
    assert web_app.answer(address)["version"] == "2"
    assert erin.ssh("ssh", "--app", "modest", "cat", "/app/version").stdout == "2"
    assert "PROBLEM" not in server.doctor()
    assert [path for path in server.data.rglob("*") if path.lstat().st_uid != USER] == []
