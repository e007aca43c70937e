"""The world that the stories happen in: a private Docker engine, registries, base images, a server, two tenants.

All of it is real, made once per session at the first test that asks, and stopped by process id. A session that needs
an engine gets a network of its own (`tests.world.network_namespace`). `SLIPWAY_TEST_ENGINE` names an engine to use
instead, and whoever is not root uses the machine's. Then only what a test made itself is removed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import docker
import pytest

from demo import base_image as recipes
from demo.base_image import import_base_image
from demo.engine import EngineMissingError, answering, private_engine
from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.world.network_namespace import enter_own, listening_ports
from tests.world.working_copy import Repo

BASE_IMAGE = "slipway-test/base:python"
SMALL_IMAGE = "slipway-test/base:shell"

_numbers = itertools.count(1)

_private_network = pytest.StashKey[bool]()
_given_engine = pytest.StashKey[str | None]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember what the session is told before the environment is cleared, and let SIGTERM end it as Ctrl-C does.

    So whoever limits the suite's time (timeout(1), a CI) does not leave engines and servers behind.
    """
    config.stash[_given_engine] = os.environ.get("SLIPWAY_TEST_ENGINE")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts what it puts into the background deaf to ^C, and what a test starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that need an engine: they take longest, and several processes should end at the same time.

    For this, bin/test tells pytest-xdist to deal files in their order, and not by their numbers of tests.
    """
    slow = {item.path for item in items if isinstance(item, pytest.Function) and "engine" in item.fixturenames}
    slow.add(Path(__file__).with_name("test_setup.py"))  # it installs everything once more
    # A container on the first engine's default network has failed to start after a second engine was killed and started
    # again beside it; so that story comes last of them.
    items.sort(key=lambda item: (item.path not in slow, item.path.name == "test_engine_restart.py"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Move into an own network before any fixture opens a socket, if any test is going to need an engine."""
    wanted = any("engine" in item.fixturenames for item in session.items if isinstance(item, pytest.Function))
    given = session.config.stash[_given_engine] is not None
    session.config.stash[_private_network] = (
        wanted and not given and shutil.which("dockerd") is not None and enter_own()
    )


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_this_machine() -> Iterator[None]:
    """Keep whoever runs the tests out of them: Docker logins and engine, Git's and the server's settings, SSH agent."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as empty:
        for name in list(os.environ):
            if name.startswith(("DOCKER_", "GIT_", "SSH_", "SLIPWAY_")):
                patch.delenv(name)
        (Path(empty) / "config.json").write_text("{}")
        patch.setenv("DOCKER_CONFIG", empty)
        yield


@pytest.fixture(scope="session")
def world_folder() -> Iterator[Path]:
    """A folder for what lasts as long as the session; its name is short, since Unix sockets are in it."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config, world_folder: Path) -> Iterator[str]:
    """The URL of a Docker engine. On a private one nothing of what the tests made may be left in the end."""
    if not pytestconfig.stash[_private_network]:
        url = pytestconfig.stash[_given_engine] or answering()
        if url is None:
            raise EngineMissingError("the tests need a Docker engine; run them as root, or start one that you may use")
        yield url
        return
    with private_engine(world_folder / "engine") as url:
        yield url
        with closing(docker.DockerClient(url)) as client:
            assert [container.name for container in client.containers.list(all=True)] == []
            assert {network.name for network in client.networks.list()} == {"bridge", "host", "none"}
        assert listening_ports() == [], "something that a test started still listens"


@pytest.fixture(scope="session")
def base_image(engine: str) -> Iterator[str]:
    """A Debian with Python, in the engine's own store: its reference."""
    yield from _base_image(engine, BASE_IMAGE, recipes.PYTHON)


@pytest.fixture(scope="session")
def small_image(engine: str) -> Iterator[str]:
    """A Debian with a shell and small programs only, in the engine's own store: its reference."""
    yield from _base_image(engine, SMALL_IMAGE, recipes.SHELL)


def _base_image(engine: str, reference: str, recipe: recipes.Recipe) -> Iterator[str]:
    import_base_image(engine, reference, recipe)
    yield reference
    with docker.APIClient(engine) as client:
        client.remove_image(reference, force=True)


@pytest.fixture(scope="session")
def registry(engine: str, world_folder: Path) -> Iterator[Registry]:
    """A private registry: `host`, `username`, `password`, and `push(image, name)` for an image of the engine's."""
    with Registry(world_folder / "registry", engine) as running:
        yield running


@pytest.fixture(scope="session")
def other_registry(engine: str, world_folder: Path) -> Iterator[Registry]:
    """A second registry with an account and a password of its own."""
    with Registry(world_folder / "other-registry", engine, username="other") as running:
        yield running


@pytest.fixture(scope="session")
def private_base(registry: Registry, base_image: str) -> str:
    """The base image in the registry: the reference to pull it by, which takes the registry's password."""
    return registry.push(base_image, "private/base:1")


@pytest.fixture(scope="session")
def private_small(registry: Registry, small_image: str) -> str:
    """The small image in the registry: the reference to pull it by, which takes the registry's password."""
    return registry.push(small_image, "private/small:1")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return TCP ports of 127.0.0.1 that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
def person(tmp_path: Path) -> Callable[[str], Person]:
    """Make people that no server knows yet, by name."""
    return lambda name: Person(tmp_path / name, name)


@contextmanager
def _servers(engine: str, folder: Path) -> Iterator[Callable[..., Server]]:
    """Yield a function that starts servers, and stop them afterwards; whatever they made on the engine is removed."""
    with ExitStack() as stack:

        def start(**settings: str) -> Server:
            number = next(_numbers)
            server = Server(folder / f"server-{number}", engine, settings)
            server.init(Person(folder / f"admin-{number}", "admin"))
            stack.callback(server.down)
            server.start()
            return server

        yield start


@pytest.fixture(scope="module")
def new_server(engine: str, world_folder: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with a data folder and an administrator `admin` of their own; `settings` are environment variables.

    They end with the module, so that not all servers of a session run beside its last stories.
    """
    with _servers(engine, world_folder) as start:
        yield start


@pytest.fixture(scope="session")
def slipway(engine: str, world_folder: Path) -> Iterator[Server]:
    """The server that most stories share. A story that stops or breaks one asks for `new_server`."""
    with _servers(engine, world_folder) as start:
        yield start()


@pytest.fixture(scope="session")
def alice(slipway: Server, world_folder: Path) -> Person:
    """A tenant of the shared server."""
    tenant = Person(world_folder / "alice", "alice")
    slipway.add_user(tenant)
    return tenant


@pytest.fixture(scope="session")
def bob(slipway: Server, world_folder: Path) -> Person:
    """A second tenant of the shared server, who has no access to anything of the first."""
    tenant = Person(world_folder / "bob", "bob")
    slipway.add_user(tenant)
    return tenant


@pytest.fixture
def repo(tmp_path: Path) -> Callable[[Person, str], Repo]:
    """Make working copies: `repo(alice, "shop")` is a new one whose remote `aptible` is the app `shop`."""
    return Repo
