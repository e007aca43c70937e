"""BuildKit behind a push: secrets from the config, no build where nothing changed, and images that are collected."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.stories.web_app import answer, create, files, read, said, show
from tests.world.background import eventually
from tests.world.working_copy import Repo

SECRET = "RUN --mount=type=secret,id=BUILD_TOKEN sha256sum < /run/secrets/BUILD_TOKEN > /token-was-here\n"


@pytest.fixture
def server(new_server: Callable[..., Server]) -> Server:
    return new_server(SLIPWAY_BUILDER="buildkit")


@pytest.fixture
def carol(server: Server, tmp_path: Path) -> Person:
    person = Person(tmp_path / "carol", "carol")
    server.add_user(person)
    return person


def test_a_push_built_by_buildkit(
    server: Server, carol: Person, registry: Registry, private_base: str, engine: str
) -> None:
    create(carol, "shop", registry.username, registry.password.reveal())
    shop = Repo(carol, "shop")
    shop.commit(files(private_base, "one", dockerfile=SECRET))
    pushed = shop.push("-o", "config=BUILD_TOKEN=token-of-the-build", "master")
    assert pushed.returncode == 0, pushed.stderr
    lines = said(pushed)
    assert any("RUN --mount=type=secret,id=BUILD_TOKEN" in line for line in lines)
    assert any(line.startswith("#") and " DONE " in line for line in lines)
    assert "token-of-the-build" not in pushed.stderr
    first = show(carol, "shop")
    assert answer(first["url"])["version"] == "one"
    with closing(docker.APIClient(engine)) as client:
        images: Any = client
        assert "token-of-the-build" not in json.dumps(
            [images.history(first["image"]), images.inspect_image(first["image"])]
        )

    # The same tree in another commit: released, not built.
    shop.git_ok("-c", "user.name=c", "-c", "user.email=c@example.com", "commit", "--allow-empty", "--message", "Again")
    again = shop.push("master")
    assert again.returncode == 0, again.stderr
    assert any("used again without a build" in line for line in said(again))
    assert show(carol, "shop")["image"] == first["image"]

    # A rebuild builds regardless; then the first image is nobody's any more.
    assert carol.ssh("rebuild", "--app", "shop").returncode == 0
    rebuilt = show(carol, "shop")["image"]
    assert rebuilt != first["image"]
    refused = carol.ssh("gc")
    assert (refused.returncode, "is for administrators of the server" in refused.stderr) == (3, True)
    assert first["image"] not in server.administer("gc", "--dry-run", "--json"), "it can be rolled back to"
    shown = json.loads(server.administer("gc", "--dry-run", "--keep", "1", "--json"))
    assert [image["image"] for image in shown] == [first["image"]]
    # An app is passed over while the containers of its former release are still drained.
    eventually(lambda: "1 image removed." in server.administer("gc", "--keep", "1"), "the first image is not removed")
    with closing(docker.APIClient(engine)) as client:
        kept = {image["Id"] for image in client.images()}
    assert first["image"] not in kept
    assert rebuilt in kept
    assert answer(show(carol, "shop")["url"])["version"] == "one"
    assert read(carol, "releases", "--app", "shop")[0]["image"] == rebuilt
