"""The engine goes down under running apps, in good order or not, and comes back."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from demo import base_image as recipes
from demo.base_image import import_base_image
from demo.engine import Dockerd, private_dockerd
from releaser.engine import EngineUnreachableError
from tests.releaser.conftest import APP, House, until

BASE = "slipway-test/restart:base"
PROCFILE = "web: python3 /app.py\nworker: exec python3 /app.py worker\nclock: exec python3 /app.py worker\n"


@pytest.fixture
def dockerd(engine: str, world_folder: Path) -> Iterator[Dockerd]:
    """A second engine, beside the session's, that nobody else needs."""
    assert engine
    with private_dockerd(world_folder / "engine-2") as running:
        yield running


@pytest.fixture
def house(dockerd: Dockerd, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[House]:
    import_base_image(dockerd.url, BASE, recipes.PYTHON)
    with closing(docker.DockerClient(dockerd.url)) as client:
        house = House(dockerd.url, client, tmp_path / "proxy", _image(client), free_port())
        house.proxy.start()
        yield house
        house.releaser.remove_everything()


def _image(client: docker.DockerClient) -> str:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        archive.add(APP, "app.py")
        dockerfile = f'FROM {BASE}\nCOPY app.py /app.py\nEXPOSE 8080\nCMD ["python3", "/app.py"]\n'.encode()
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(dockerfile)
        archive.addfile(member, io.BytesIO(dockerfile))
    context.seek(0)
    image, _ = client.images.build(fileobj=context, custom_context=True, rm=True)
    return str(image.id)


def test_apps_are_back_with_their_engine(dockerd: Dockerd, house: House) -> None:
    release = house.deploy({"ANSWER": "here"}, procfile=PROCFILE)
    everything = [("clock", 1), ("web", 1), ("worker", 1)]
    for end in (dockerd.stop, dockerd.kill):
        before = {each.service: each.address for each in house.releaser.running(7)}
        end()
        with pytest.raises(EngineUnreachableError):
            house.releaser.standing()
        dockerd.start()
        house.releaser.mend(release)
        assert sorted(house.running()) == everything
        until(lambda: house.get().text == "here")
        assert {each.service: each.address for each in house.releaser.running(7)} == before
    house.client.containers.get(house.container("worker").id).remove(force=True)
    dockerd.kill()
    dockerd.start()
    assert house.releaser.restore([release]) == {}
    assert sorted(house.running()) == everything
    until(lambda: house.get().text == "here")
    house.deploy({"ANSWER": "next"}, procfile=PROCFILE)
    assert house.answer() == "next"
