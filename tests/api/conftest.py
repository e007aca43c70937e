"""People who use public clients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.api.public_client import PublicClient
from tests.stories.test_image_deploy import Images

PASSWORD = "correct horse battery staple"

PROCFILE = "web: python3 -u /app/server.py\nworker: sleep 1000\n"

_numbers = itertools.count(1)


@pytest.fixture
def client(slipway: Server, tmp_path: Path) -> Callable[..., PublicClient]:
    """Give somebody a password and a public client that is logged in with it."""

    def make(person: Person, accept: str = "json", password: str = PASSWORD) -> PublicClient:
        done = person.ssh("users:password", "--email", f"{person.name}@example.com", stdin=f"{password}\n")
        assert done.returncode == 0, done.stderr
        made = PublicClient(f"http://{slipway.api}", tmp_path / f"{person.name}-{next(_numbers)}", accept)
        answer = made.log_in(f"{person.name}@example.com", password)
        assert answer.status_code == 201, answer.text
        return made

    return make


@pytest.fixture
def handle() -> str:
    """Return a name that no app has had."""
    return f"api-{next(_numbers)}"


@pytest.fixture
def newcomer(slipway: Server, person: Callable[[str], Person]) -> Callable[[], Person]:
    """Make people with an account of whom nobody has heard before."""

    def make() -> Person:
        somebody = person(f"newcomer-{next(_numbers)}")
        slipway.add_user(somebody)
        return somebody

    return make


@pytest.fixture(scope="session")
def image(engine: str, base_image: str, registry: Registry) -> str:
    """An image of the web app in the private registry, with a Procfile of two services."""
    return Images(engine, base_image, registry).push("private/api:1", "one", PROCFILE)


def credentials(registry: Registry) -> dict[str, str]:
    return {
        "APTIBLE_PRIVATE_REGISTRY_USERNAME": registry.username,
        "APTIBLE_PRIVATE_REGISTRY_PASSWORD": registry.password.reveal(),
    }


@pytest.fixture(scope="session")
def running(slipway: Server, alice: Person, image: str, registry: Registry) -> Iterator[str]:
    """An app of alice's that runs."""
    assert alice.ssh("apps:create", "api-running").returncode == 0
    words = ["deploy", "--app", "api-running", "--docker-image", image]
    done = alice.ssh(*words, *(f"{name}={value}" for name, value in credentials(registry).items()))
    assert done.returncode == 0, done.stdout + done.stderr
    yield "api-running"
    assert alice.ssh("apps:deprovision", "--app", "api-running").returncode == 0
