"""A ready image is deployed as it is; from git to image and back."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Callable

import docker
import pytest

from demo.person import Person
from demo.registry import Registry
from tests.stories.web_app import SERVER, answer, create, files, read, show
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]
USERNAME, PASSWORD = "APTIBLE_PRIVATE_REGISTRY_USERNAME", "APTIBLE_PRIVATE_REGISTRY_PASSWORD"


class Images:
    """Makes images of the web app on the engine, and has them in the registry only."""

    def __init__(self, engine: str, base: str, registry: Registry) -> None:
        self._client = docker.APIClient(engine)
        self._base = base
        self._registry = registry

    def push(self, name: str, version: str, procfile: str | None = None) -> str:
        """Return the reference of a new image that answers with `version`."""
        container = self._client.create_container(self._base, ["true"])["Id"]
        try:
            entries = {"app/server.py": SERVER, "app/version": version}
            if procfile:
                entries[".aptible/Procfile"] = procfile
            self._client.put_archive(container, "/", _tar(entries))
            changes = ["WORKDIR /app", "EXPOSE 8080", 'CMD ["python3", "-u", "server.py"]']
            local = f"slipway-test/image:{uuid.uuid4().hex}"
            repository, tag = local.split(":")
            self._client.commit(container, repository, tag, changes=changes)
        finally:
            self._client.remove_container(container, force=True)
        try:
            return self._registry.push(local, name)
        finally:
            self._client.remove_image(local, force=True)


def _tar(entries: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture(scope="module")
def images(engine: str, base_image: str, registry: Registry) -> Images:
    return Images(engine, base_image, registry)


def test_an_image_is_deployed_with_credentials_that_are_kept(alice: Person, images: Images, registry: Registry) -> None:
    image = images.push("team/shop:latest", "one")
    create(alice, "from-image")
    words = ("--private-registry-username", registry.username, "--private-registry-password", "-")
    first = alice.ssh(
        "deploy", "--app", "from-image", "--docker-image", image, *words, stdin=registry.password.reveal()
    )
    assert first.returncode == 0, first.stdout + first.stderr
    app = show(alice, "from-image")
    assert answer(app["url"])["version"] == "one"
    assert app["commit"] is None
    assert app["image"].startswith(f"{registry.host}/team/shop@sha256:")
    assert set(read(alice, "config", "--app", "from-image")) == {USERNAME, PASSWORD}
    images.push("team/shop:latest", "two")
    again = alice.ssh("deploy", "--app", "from-image")
    assert again.returncode == 0, again.stdout + again.stderr
    assert answer(app["url"])["version"] == "two"
    images.push("team/shop:latest", "three")
    assert alice.ssh("rebuild", "--app", "from-image").returncode == 0
    assert answer(app["url"])["version"] == "three"
    assert alice.ssh("rollback", "--app", "from-image", "1").returncode == 0
    assert answer(app["url"])["version"] == "one"


def test_an_image_brings_its_procfile(alice: Person, images: Images, registry: Registry) -> None:
    image = images.push("team/procfile:1", "one", procfile="web: GREETING=procfile python3 -u server.py\n")
    create(alice, "procfile", registry.username, registry.password.reveal())
    assert alice.ssh("deploy", "--app", "procfile", "--docker-image", image).returncode == 0
    environment = answer(show(alice, "procfile")["url"])["environment"]
    assert environment["GREETING"] == "procfile"
    assert environment["APTIBLE_PROCESS_TYPE"] == "web"


def test_from_git_to_an_image_and_back(alice: Person, new_app: NewApp, images: Images, private_base: str) -> None:
    shop = new_app(alice)
    commit = shop.commit(files(private_base, "from git"))
    assert shop.push().returncode == 0
    url = show(alice, shop.app)["url"]
    image = images.push("team/detached:1", "from image")
    refused = alice.ssh("deploy", "--app", shop.app, "--docker-image", image)
    assert refused.returncode == 2
    assert "--git-detach" in refused.stderr
    assert answer(url)["version"] == "from git"
    done = alice.ssh("deploy", "--app", shop.app, "--docker-image", image, "--git-detach", "GREETING=hello")
    assert done.returncode == 0, done.stdout + done.stderr
    assert answer(url)["version"] == "from image"
    assert answer(url)["environment"]["GREETING"] == "hello"
    back = shop.push()
    assert back.returncode == 0, back.stderr
    assert "Everything up-to-date" not in back.stderr, "the same commit must be deployable again"
    assert answer(url)["version"] == "from git"
    assert shop.remote_refs()["refs/heads/master"] == commit


def test_an_older_client_names_the_image_among_the_variables(alice: Person, images: Images, registry: Registry) -> None:
    image = images.push("team/older:1", "one")
    create(alice, "older")
    password = registry.password.reveal()
    done = alice.ssh(
        *("deploy", "--app", "older", f"APTIBLE_DOCKER_IMAGE={image}"),
        *(f"{USERNAME}={registry.username}", f"{PASSWORD}={password}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert answer(show(alice, "older")["url"])["version"] == "one"


def test_an_image_that_is_not_there_changes_nothing(alice: Person, images: Images, registry: Registry) -> None:
    image = images.push("team/there:1", "one")
    create(alice, "gone", registry.username, registry.password.reveal())
    assert alice.ssh("deploy", "--app", "gone", "--docker-image", image).returncode == 0
    for missing in (f"{registry.host}/team/there:2", f"{registry.host}/team/none:1", "not an image"):
        done = alice.ssh("deploy", "--app", "gone", "--docker-image", missing, "GREETING=never")
        assert done.returncode == 1
        assert missing in done.stdout
    assert answer(show(alice, "gone")["url"])["version"] == "one"
    assert "GREETING" not in read(alice, "config", "--app", "gone")
