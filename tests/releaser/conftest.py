"""One instance of slipway's releaser per story, on the real engine and behind a real HAProxy of its own."""

from __future__ import annotations

import io
import itertools
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from hypothesis import settings

from releaser.container import Container
from releaser.haproxy import Proxy
from releaser.haproxy_config import Listening
from releaser.release import Release
from releaser.releaser import Releaser
from releaser.route import Route
from store.secret import Secret

settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("unhurried")

APP = Path(__file__).with_name("app.py")

PYTHON_APP = """
FROM {base}
COPY app.py /app.py
ENV FROM_IMAGE=image FROM_BOTH=image APTIBLE_LAYER=image
"""


@pytest.fixture(scope="session")
def client(engine: str) -> Iterator[docker.DockerClient]:
    with closing(docker.DockerClient(engine)) as connected:
        yield connected


@pytest.fixture(scope="session")
def build(client: docker.DockerClient, base_image: str) -> Iterator[Callable[[str], str]]:
    """Build an image out of `PYTHON_APP` and more lines of Dockerfile, and return its id."""
    built = []

    def build_image(lines: str) -> str:
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            archive.add(APP, "app.py")
            dockerfile = f"{PYTHON_APP.format(base=base_image)}\n{lines}\n".encode()
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(dockerfile)
            archive.addfile(member, io.BytesIO(dockerfile))
        context.seek(0)
        image, _ = client.images.build(fileobj=context, custom_context=True, rm=True, forcerm=True)
        built.append(str(image.id))
        return built[-1]

    yield build_image
    for identifier in dict.fromkeys(reversed(built)):
        client.images.remove(identifier, force=True)


@pytest.fixture(scope="session")
def web_image(build: Callable[[str], str]) -> str:
    """An image that serves HTTP on its one EXPOSEd port."""
    return build('EXPOSE 8080\nCMD ["python3", "/app.py"]')


@dataclass
class House:
    """An instance: its releaser, its proxy, and a release number that goes up."""

    engine: str
    client: docker.DockerClient
    folder: Path
    image: str
    port: int
    instance: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    said: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.folder)
        self.releaser = Releaser(engine=self.engine, instance=self.instance, proxy=self.proxy)

    def release(self, config: Mapping[str, str] | None = None, **changes: Any) -> Release:
        number = next(self.numbers)
        config = config or {}
        given: dict[str, Any] = {
            "instance": self.instance,
            "app_id": 7,
            "app": "shop",
            "number": number,
            "operation": 100 + number,
            "image": self.image,
            "environment": {key: Secret(value) for key, value in config.items()},
            "procfile": None,
            "settings": config,
            "route": Route(port=self.port),
            "git_ref": f"{number:040x}",
        }
        return Release(**{**given, **changes})

    def deploy(self, config: Mapping[str, str] | None = None, **changes: Any) -> Release:
        release = self.release(config, **changes)
        with self.releaser.rollout(release, say=self.said.append, cancelled=self.cancelled):
            pass
        return release

    def get(self, path: str = "/", **options: Any) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=20, **options)

    def answer(self) -> str:
        return self.get().text

    def running(self, app_id: int = 7) -> list[tuple[str, int]]:
        return [(each.service, each.release) for each in self.releaser.running(app_id) if each.state == "running"]

    def container(self, service: str) -> Container:
        (found,) = (each for each in self.releaser.running(7) if each.service == service)
        return found


@pytest.fixture
def new_house(
    engine: str,
    client: docker.DockerClient,
    web_image: str,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> Iterator[Callable[[], House]]:
    houses: list[House] = []

    def build_house() -> House:
        house = House(engine, client, tmp_path / f"proxy-{len(houses)}", web_image, free_port())
        house.proxy.start()
        houses.append(house)
        return house

    yield build_house
    for house in houses:
        house.releaser.remove_everything()


@pytest.fixture
def house(new_house: Callable[[], House]) -> House:
    return new_house()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def new_proxy(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    with ExitStack() as stack:

        def start(name: str = "proxy", **listening: Any) -> Proxy:
            # Longer than a Unix socket's address may be.
            proxy = Proxy(tmp_path / ("deep" * 30) / name, Listening(**listening))
            proxy.start()
            stack.callback(proxy.remove)
            return proxy

        yield start
