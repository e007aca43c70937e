"""`kill -9` at the boundaries of operations' steps: what is recorded, what runs and what is told agree afterwards.

Every step of every kind of operation, and other faults, are what `python -m tests.suites.faults` is for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from demo.server import Server
from tests.suites import faults
from tests.world.faults import Fault, Field, fill_disk, free_disk
from tests.world.gated_server import Boundary
from tests.world.kinds import App, kinds

APPS = 8
"""Operations that one fault strikes."""


@pytest.fixture(scope="module")
def image(engine: str, base_image: str, world_folder: Path) -> Iterator[str]:
    name = faults.ready_image(engine, base_image, world_folder / "ready")
    yield name
    with docker.APIClient(engine) as client:
        client.remove_image(name, force=True)


@pytest.fixture(scope="module")
def ground(engine: str, base_image: str, image: str, world_folder: Path) -> Iterator[Field]:
    if os.geteuid() != 0:
        pytest.skip("a disk of one's own, to be filled, needs root")
    with faults.field(world_folder / "field", engine, base_image, image) as opened:
        yield opened


@pytest.fixture(scope="module")
def apps(ground: Field) -> list[App]:
    return ground.apps(APPS)


def test_every_step_survives_kill_dash_nine(ground: Field, apps: list[App], image: str) -> None:
    found = faults.discover(ground, apps, image)
    for kind, boundaries in found.items():
        assert boundaries, f"no step of '{kind}' is known"
    for part in faults.rounds(faults.once(found), APPS):
        assert faults.play(ground, apps, part, faults.FAULTS["kill"]) == []


def test_cancelled_anywhere_it_is_all_or_nothing(ground: Field, apps: list[App], image: str) -> None:
    deploy = next(kind for kind in kinds(image) if kind.name == "commitish with config and hooks")
    steps = ("plan", "build", "before_deploy", "health", "move_branches", "drain")
    plan = [(deploy, Boundary("deploy", "before", step)) for step in steps]
    assert faults.play(ground, apps, plan, faults.FAULTS["cancel"]) == []


def test_a_full_disk_fails_what_runs_and_is_told_to_who_comes_next(ground: Field, apps: list[App], image: str) -> None:
    by_name = {kind.name: kind for kind in kinds(image)}
    plan = [
        (by_name["push"], Boundary("deploy", "before", "build")),
        (by_name["push with config"], Boundary("deploy", "before", "move_branches")),
        (by_name["configure"], Boundary("configure", "before", "commit")),
        (by_name["restart"], Boundary("restart", "before", "after_success")),
    ]
    told: list[str] = []

    def heal(server: Server) -> None:
        fill_disk(server)  # what the operations gave back when they failed, too
        while not told or "disk" not in told[-1]:
            # Room that was held for an emergency, or given back only now, is room: what finds it may succeed.
            assert len(told) < 5
            told.append(apps[-1].person.ssh("config:set", "--app", apps[-1].name, "A=1").stderr)
            fill_disk(server)
        free_disk(server)

    assert faults.play(ground, apps, plan, Fault(fill_disk, heal)) == []
    assert "the disk of the server's data folder is full" in told[-1]
    assert apps[-1].person.ssh("config:set", "--app", apps[-1].name, "A=1").returncode == 0
