"""A server is replaced while people use it: apps answer all along, and who connects meanwhile waits for the new one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest

from demo.person import Person
from tests.releaser.load import Load
from tests.stories import web_app
from tests.world.service_manager import Unit
from tests.world.working_copy import Repo


@pytest.fixture
def unit(engine: str, base_image: str, world_folder: Path) -> Iterator[Unit]:
    unit = Unit(world_folder / "unit", engine, {"SLIPWAY_LOCAL_IMAGES": base_image})
    unit.init(Person(world_folder / "unit-admin", "admin"))
    yield unit
    unit.down()
    unit.close()


def test_a_restart_refuses_no_connection_and_fails_no_request(
    unit: Unit, engine: str, base_image: str, world_folder: Path
) -> None:
    unit.start()
    dora = Person(world_folder / "dora", "dora")
    unit.add_user(dora)
    web_app.create(dora, "steady")
    repo = Repo(dora, "steady")
    repo.commit(web_app.files(base_image, "1"))
    assert repo.push().returncode == 0
    address = web_app.show(dora, "steady")["url"]
    proxy = (unit.data / "proxy" / "haproxy.pid").read_text()
    running = _containers(engine)
    asked: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            done = repo.git("ls-remote", "aptible")
            asked.append(done.stderr if done.returncode else "")

    with Load(urlsplit(address).port or 0, clients=4) as load:
        asking = threading.Thread(target=ask)
        asking.start()
        assert unit.stop() == 0
        assert "STOPPING=1" in unit.told()
        unit.start()
        over.set()
        asking.join()
    assert load.failures == []
    assert sum(load.answers.values()) > 100
    assert set(asked) == {""}
    assert (unit.data / "proxy" / "haproxy.pid").read_text() == proxy, "the proxy was restarted with the server"
    assert _containers(engine) == running, "a container was restarted with the server"
    repo.commit(web_app.files(base_image, "2"))
    assert repo.push().returncode == 0
    assert web_app.answer(address)["version"] == "2"


def _containers(engine: str) -> set[str]:
    with docker.APIClient(engine) as client:
        return {each["Id"] for each in client.containers() if "steady" in each["Names"][0]}
