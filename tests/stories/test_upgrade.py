"""A server is replaced while people use it: apps answer all along, and who connects meanwhile waits for the new one."""

from __future__ import annotations

import shlex
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest

from demo.person import HOST, Person
from tests.releaser.load import BREATH, Load
from tests.stories import web_app
from tests.world.background import Background, eventually
from tests.world.service_manager import Unit
from tests.world.working_copy import Repo


@pytest.fixture
def unit(engine: str, base_image: str, world_folder: Path) -> Iterator[Unit]:
    folder = Path(tempfile.mkdtemp(dir=world_folder))
    unit = Unit(folder / "unit", engine, {"SLIPWAY_LOCAL_IMAGES": base_image})
    unit.init(Person(folder / "admin", "admin"))
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

    with Load(urlsplit(address).port or 0, clients=4, pause=BREATH) as load:
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


def test_whoever_is_logging_in_while_the_server_stops_is_answered(unit: Unit, world_folder: Path) -> None:
    unit.start()
    emil = Person(world_folder / "emil", "emil")
    unit.add_user(emil)
    connected, go = emil.home / "connected", emil.home / "go"
    late = f"exec 3<>/dev/tcp/%h/%p; touch {connected}; until [ -e {go} ]; do sleep 0.05; done; cat <&3 & exec cat >&3"
    words = ("ssh", "-o", f"ProxyCommand=bash -c {shlex.quote(late)}", HOST, "apps:create", "late")
    client = Background(emil, *words)
    eventually(connected.exists, "the client does not connect")
    process = unit.process
    assert process
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(unit.stop)
        process.wait_for(r"front_door.draining.*connections=1|connections=1.*front_door.draining")
        time.sleep(1)  # nothing runs, so without the client the server would have gone long ago
        go.touch()
        status, said = client.end()
        assert status == 0, said
        assert stopped.result() == 0


def _containers(engine: str) -> set[str]:
    with docker.APIClient(engine) as client:
        return {each["Id"] for each in client.containers() if "steady" in each["Names"][0]}
