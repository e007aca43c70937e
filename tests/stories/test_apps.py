"""An app's name and its end: renamed while visitors come, deprovisioned, and gone whatever happens meanwhile."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import docker

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.releaser.conftest import until
from tests.releaser.load import BREATH, Load
from tests.stories.web_app import SERVER, answers, create, files, read, show
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]

SLOW_TO_STOP = SERVER.replace(
    "lambda *_: sys.exit(0)",
    'lambda *_: (print("asked to stop", flush=True), __import__("time").sleep(3), sys.exit(0))',
)
"""Leaves a moment in which something else can happen while the server stops a container."""


def deployed(app: Repo, base: str, server: str = SERVER) -> Repo:
    # Of its own alone: apps of the same content share one image, which stays as long as one of them does.
    app.commit(files(base, "one") | {"server.py": server, "whose": app.app})
    pushed = app.push()
    assert pushed.returncode == 0, pushed.stderr
    return app


def test_a_deprovisioned_app_is_gone_and_its_operations_are_still_told(
    alice: Person, bob: Person, new_app: NewApp, private_base: str, slipway: Server, engine: str
) -> None:
    shop = deployed(new_app(alice), private_base)
    url, before = show(alice, shop.app)["url"], read(alice, "operations", "--app", shop.app)
    with closing(docker.DockerClient(engine)) as client:

        def left() -> tuple[int, int]:
            ours = client.containers.list(all=True, filters={"label": f"slipway.app={shop.app}"})
            return len(ours), len(list((slipway.data / "repositories").iterdir()))

        containers, repositories = left()
        assert containers == 1
        images = {image.id for image in client.images.list()}
        refused = bob.ssh("apps:deprovision", "--app", shop.app)
        assert refused.returncode == 3
        gone = alice.ssh("apps:deprovision", "--app", shop.app)
        assert gone.returncode == 0, gone.stdout + gone.stderr
        assert f"{shop.app} is gone" in gone.stdout
        assert left() == (0, repositories - 1)
        assert len(images - {image.id for image in client.images.list()}) == 1
    assert not answers(url)
    assert shop.app not in [row["handle"] for row in read(alice, "apps")]
    assert alice.ssh("config", "--app", shop.app).returncode == 3
    assert shop.push().returncode != 0
    number = int(re.search(r"Operation (\d+): deprovision", gone.stdout)[1])  # type: ignore[index]  # shown below
    for told in (number, before[0]["id"]):
        logs = alice.ssh("operation:logs", str(told))
        assert logs.returncode == 0
        assert f"of {shop.app}" in logs.stdout
        assert bob.ssh("operation:logs", str(told)).returncode == 3
    create(alice, shop.app)
    assert read(alice, "operations", "--app", shop.app) == [], "the new app of that name has no past"
    assert read(alice, "config", "--app", shop.app) == {}
    assert shop.remote_refs() == {}


@contextmanager
def being_deprovisioned(person: Person, app: str, engine: str) -> Iterator[Path]:
    """Begin to deprovision an app, and go on once it has been asked to stop; yield where what is said is kept."""
    said = person.home / "said"
    with closing(docker.DockerClient(engine)) as client:
        (container,) = client.containers.list(filters={"label": f"slipway.app={app}"})
        log = container.logs(stream=True, follow=True)
        asking = subprocess.Popen(
            ["sh", "-c", f"ssh slipway apps:deprovision --app {app} >said 2>&1"],
            cwd=person.home,
            env=dict(person.environment),
        )
        assert any(b"asked to stop" in line for line in log)
        yield said
        asking.wait()


def test_what_waits_behind_the_end_of_an_app_is_told_so(
    alice: Person, new_app: NewApp, private_base: str, engine: str
) -> None:
    shop = deployed(new_app(alice), private_base, SLOW_TO_STOP)
    with being_deprovisioned(alice, shop.app, engine) as said:
        waited = alice.ssh("restart", "--app", shop.app)
    assert f"{shop.app} is gone" in said.read_text()
    assert waited.returncode == 1
    assert "Waiting for operation" in waited.stdout
    assert f"there is no app '{shop.app}'" in waited.stdout


def test_a_server_that_is_killed_meanwhile_takes_the_app_away_when_it_is_back(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    registry: Registry,
    private_base: str,
    engine: str,
) -> None:
    server, carol = new_server(), person("carol")
    server.add_user(carol)
    create(carol, "fading", registry.username, registry.password.reveal())
    deployed(Repo(carol, "fading"), private_base, SLOW_TO_STOP)
    with being_deprovisioned(carol, "fading", engine) as said:
        server.kill()
        server.start()
        with closing(docker.DockerClient(engine)) as client:
            until(lambda: not client.containers.list(all=True, filters={"label": "slipway.app=fading"}), 60)
        until(lambda: not read(carol, "apps"), 60)
    number = int(re.search(r"Operation (\d+): deprovision", said.read_text())[1])  # type: ignore[index]
    followed = carol.ssh("operation:follow", str(number))
    assert followed.returncode == 0, followed.stdout
    assert "fading is gone" in followed.stdout
    assert [path.name for path in (server.data / "repositories").iterdir()] == []


def test_a_renamed_app_answers_at_its_new_name_and_no_request_fails(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    registry: Registry,
    private_base: str,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    port = free_port()
    server, carol = new_server(SLIPWAY_DOMAIN="apps.example.test", SLIPWAY_HTTP=f"127.0.0.1:{port}"), person("carol")
    server.add_user(carol)
    create(carol, "shop", registry.username, registry.password.reveal())
    shop = deployed(Repo(carol, "shop"), private_base)

    def at(host: str) -> int:
        try:
            with urlopen(Request(f"http://127.0.0.1:{port}/", headers={"Host": host}), timeout=20) as response:
                return int(response.status)
        except HTTPError as error:
            return error.code

    create(carol, "other")
    refused = carol.ssh("apps:rename", "shop", "other")
    assert refused.returncode == 1
    assert "taken" in refused.stderr
    assert carol.ssh("endpoints:create", "--app", "shop", "shop.example.org").returncode == 0
    with Load(port, clients=4, host="shop.example.org", pause=BREATH) as load:
        renamed = carol.ssh("apps:rename", "shop", "store")
        assert renamed.returncode == 0, renamed.stderr
        assert "git remote set-url aptible ssh://" in renamed.stdout
        assert f"http://store.apps.example.test:{port}" in renamed.stdout
        assert (at("store.apps.example.test"), at("shop.example.org")) == (200, 200)
        assert at("shop.apps.example.test") >= 400
    assert load.failures == []
    shop.git_ok("remote", "set-url", "aptible", "slipway:store.git")
    assert carol.ssh("apps:create", "shop").returncode == 0, "the former name is free"
    shop.commit({"version": "two"})
    pushed = shop.push()
    assert pushed.returncode == 0, pushed.stderr
    assert read(carol, "releases", "--app", "store")[0]["number"] == 2
    rolled = carol.ssh("rollback", "--app", "store", "1")
    assert rolled.returncode == 0, rolled.stdout
