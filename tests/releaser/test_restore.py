"""The server is killed in the middle of a rollout, and comes back: what the records say is what runs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from releaser.engine import ImageMissingError
from releaser.haproxy import Proxy
from releaser.release import Release
from releaser.releaser import Releaser
from releaser.route import Route
from tests.releaser.conftest import House
from tests.releaser.load import BREATH, Load

ROOT = Path(__file__).parents[2]
WORKERS = "web: python3 /app.py\nworker: exec python3 /app.py worker\n"


def killed_at(house: House, release: Release, line: str, config: Mapping[str, str]) -> None:
    """Let another server roll out `release`, and kill it with SIGKILL as soon as it says `line`."""
    given = dataclasses.asdict(dataclasses.replace(release, environment={}))
    given["environment"] = dict(config)
    world = {"engine": house.engine, "folder": str(house.folder), "release": given}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.releaser.crash"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        json.dump(world, server.stdin)
        server.stdin.close()
        assert any(said.rstrip("\n") == line for said in server.stdout), "it never came so far"
        server.kill()


@pytest.mark.parametrize(
    ("line", "committed"), [("web: starting", False), ("worker: starting", False), ("inside", False), ("inside", True)]
)
def test_killed_in_any_phase(house: House, line: str, committed: bool) -> None:
    former = house.deploy({"ANSWER": "former"}, procfile=WORKERS)
    config = {"ANSWER": "new"}
    new = house.release(config, procfile=WORKERS)
    killed_at(house, new, line, config)
    assert house.answer() in {"former", "new"}, "the apps went down with the server"
    with Load(house.port, clients=2, pause=BREATH) as load:
        again = Releaser(engine=house.engine, instance=house.instance, proxy=Proxy(house.folder))
        assert again.restore([new if committed else former]) == {}
    expected = 2 if committed else 1
    assert load.failures == []
    assert house.answer() == ("new" if committed else "former")
    assert house.running() == [("web", expected), ("worker", expected)]
    assert len(house.releaser.running(7)) == 2


def test_restoring_what_is_in_order_changes_nothing(house: House) -> None:
    release = house.deploy(procfile=WORKERS)
    before = house.releaser.running(7)
    house.releaser.restore([release])
    assert house.releaser.running(7) == before
    assert house.answer() == "hello"


def test_containers_stopped_or_removed_by_hand_come_back(house: House) -> None:
    release = house.deploy(procfile=WORKERS)
    house.client.containers.get(house.container("web").id).remove(force=True)
    house.client.containers.get(house.container("worker").id).stop(timeout=0)
    assert house.running() == []
    assert house.releaser.restore([release]) == {}
    assert house.running() == [("web", 1), ("worker", 1)]
    house.deploy({"ANSWER": "next"}, procfile=WORKERS)
    assert house.answer() == "next"


def test_an_app_whose_image_is_gone_does_not_hold_up_the_others(house: House) -> None:
    good = house.deploy({"ANSWER": "good"})
    lost = house.release(app_id=8, app="lost", image=f"sha256:{'0' * 64}", route=Route(host="lost.example"))
    wrong = house.releaser.restore([lost, good])
    assert set(wrong) == {8}
    assert isinstance(wrong[8], ImageMissingError)
    assert house.answer() == "good"


def test_an_app_without_a_release_in_the_records_is_taken_away(house: House) -> None:
    house.deploy()
    house.releaser.restore([])
    assert house.releaser.running(7) == []
    assert house.proxy.routes() == {}


def test_strangers_and_other_instances_are_left_alone(house: House, new_house: Callable[[], House]) -> None:
    neighbour = new_house()
    neighbour.deploy({"ANSWER": "neighbour"})
    forged = {"slipway.instance": house.instance, "slipway.app-id": "7", "slipway.operation": "x"}
    stranger = house.client.containers.run(house.image, ["sleep", "600"], detach=True, labels=forged)
    try:
        house.deploy()
        house.releaser.restore([])
        house.releaser.remove_everything()
        stranger.reload()
        assert stranger.status == "running"
        assert neighbour.answer() == "neighbour"
        assert house.client.networks.list(names=[f"slipway-{house.instance}"]) == []
    finally:
        stranger.remove(force=True)
