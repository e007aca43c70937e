"""Services, their scale and their hooks: seen by who owns an app."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.request import Request, urlopen

import docker
import pytest

from demo.person import HOST, Person
from demo.registry import Registry
from demo.server import Server
from tests.releaser.conftest import until
from tests.stories.web_app import SERVER, answer, answers, create, files, read, said, show
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]

PROCFILE = "web: python3 -u server.py\nworker: while sleep 1; do echo working; done\n"

HOOKS = """\
before_deploy:
  - echo migrating to $APTIBLE_GIT_REF with $GREETING
  - test ! -e broken
after_deploy_success:
  - echo told everybody
after_deploy_failure:
  - echo sorry from $(cat version)
after_restart_success: ["echo restarted; exit 3"]
"""


@pytest.fixture(scope="session")
def client(engine: str) -> Iterator[docker.DockerClient]:
    with closing(docker.DockerClient(engine)) as connected:
        yield connected


def deployed(shop: Repo, base: str) -> Repo:
    """Deploy version one of an app with two services and hooks."""
    shop.commit(files(base, "one") | {"Procfile": PROCFILE, ".aptible.yml": HOOKS})
    pushed = shop.push("-o", "config=GREETING=hello", "master")
    assert pushed.returncode == 0, pushed.stderr
    return shop


@pytest.fixture
def shop(alice: Person, new_app: NewApp, private_base: str) -> Repo:
    """An app with two services and hooks, deployed."""
    return deployed(new_app(alice), private_base)


@pytest.fixture(scope="module")
def window(alice: Person, registry: Registry, private_base: str) -> Repo:
    """Such an app for stories that only look at it."""
    create(alice, "window", registry.username, registry.password.reveal())
    return deployed(Repo(alice, "window"), private_base)


def test_hooks_run_around_a_release(shop: Repo, alice: Person) -> None:
    commit = shop.commit({"version": "two"})
    lines = said(shop.push())
    order = [
        lines.index(line)
        for line in (
            f"migrating to {commit} with hello",
            "-----> Releasing version 2",
            "-----> Released version 2 of " + shop.app,
            "told everybody",
            show(alice, shop.app)["url"],
        )
    ]
    assert order == sorted(order)
    assert order[-1] == len(lines) - 1
    newest = read(alice, "releases", "--app", shop.app)[0]
    assert (newest["commit"], newest["user"], newest["current"]) == (commit, "alice", True)
    assert newest["seconds"] > 0
    shop.commit({"version": "three", "broken": ""})
    failed = shop.push()
    assert failed.returncode != 0
    assert "the before_deploy command 'test ! -e broken' exited with status 1" in failed.stderr
    assert "sorry from two" in said(failed), "it runs in the image of what runs on"
    assert answer(show(alice, shop.app)["url"])["version"] == "two"
    restarted = alice.ssh("restart", "--app", shop.app)
    assert restarted.returncode == 0, "what comes after changes no outcome"
    assert "exited with status 3" in restarted.stdout
    assert "migrating" not in restarted.stdout
    shop.commit({"broken": None, ".aptible.yml": "before_deploy:\n  - true\nafter_lunch: [echo]\n"})
    off = shop.push()
    assert off.returncode != 0
    assert "line 3 of .aptible.yml: there is no key 'after_lunch'" in off.stderr


def test_a_service_is_scaled_and_stays_so(shop: Repo, alice: Person) -> None:
    def counts() -> dict[str, tuple[int, int, int]]:
        rows = read(alice, "services", "--app", shop.app)
        return {row["service"]: (row["container_count"], row["running"], row["container_size"]) for row in rows}

    assert counts() == {"web": (1, 1, 1024), "worker": (1, 1, 1024)}
    url = show(alice, shop.app)["url"]
    scaled = alice.ssh("apps:scale", "--app", shop.app, "web", "--container-count", "3", "--container-size", "256")
    assert scaled.returncode == 0, scaled.stdout
    assert counts() == {"web": (3, 3, 256), "worker": (1, 1, 1024)}
    seen = {answer(url)["environment"]["APTIBLE_PROCESS_INDEX"] for _ in range(30)}
    assert seen == {"0", "1", "2"}
    assert answer(url)["environment"]["APTIBLE_CONTAINER_SIZE"] == "256"
    assert show(alice, shop.app)["release"] == 1, "scaling releases nothing new"
    assert alice.ssh("apps:scale", "--app", shop.app, "worker", "--container-count", "0").returncode == 0
    shop.commit({"version": "two"})
    assert shop.push().returncode == 0
    assert counts() == {"web": (3, 3, 256), "worker": (0, 0, 1024)}
    unknown = alice.ssh("apps:scale", "--app", shop.app, "clock", "--container-count", "1")
    assert unknown.returncode == 2
    assert "has no service 'clock'; it has web, worker" in unknown.stderr
    assert alice.ssh("apps:scale", "--app", shop.app, "web").returncode == 2


def test_somebody_else_scales_and_sees_nothing(window: Repo, bob: Person) -> None:
    for words in (
        ["services", "--app", window.app],
        ["apps:scale", "--app", window.app, "web", "--container-count", "0"],
        ["services:settings", "--app", window.app, "worker", "--force-zero-downtime"],
    ):
        refused = bob.ssh(*words)
        assert refused.returncode == 3
        assert "there is no app" in refused.stderr


def test_a_command_runs_in_a_container_of_the_current_release(window: Repo, alice: Person, bob: Person) -> None:
    ran = alice.ssh("ssh", "--app", window.app, 'cat version; echo "$GREETING"; echo oops >&2; exit 7')
    assert (ran.returncode, ran.stdout) == (7, "onehello\n")
    assert "oops" in ran.stderr
    words = alice.ssh("ssh", "--app", window.app, "python3", "-c", "print('a  b')", "--app")
    assert (words.returncode, words.stdout) == (0, "a  b\n")
    assert bob.ssh("ssh", "--app", window.app, "env").returncode == 3


def test_the_log_of_all_services_is_followed_into_the_next_release(shop: Repo, alice: Person, bob: Person) -> None:
    assert alice.ssh("config:set", "--app", shop.app, "API_TOKEN=correct-horse-battery").returncode == 0
    shop.commit({"server.py": SERVER.replace('print("serving"', 'print(os.environ["API_TOKEN"], "serving"')})
    assert shop.push().returncode == 0
    with leaving(alice, f"logs --app {shop.app}") as lines:
        assert wait_for(lines, "web | [secret] serving one")
        assert wait_for(lines, "worker | working")
        shop.commit({"version": "two"})
        assert shop.push().returncode == 0
        assert wait_for(lines, "web | [secret] serving two")
    once = alice.ssh("logs", "--app", shop.app, "--service", "web", "--no-follow")
    assert once.returncode == 0
    # The former release's container may still be there.
    assert once.stdout.removeprefix("web | [secret] serving one\n") == "web | [secret] serving two\n"
    assert bob.ssh("logs", "--app", shop.app).returncode == 3


def test_whoever_leaves_takes_the_command_along(window: Repo, alice: Person, client: docker.DockerClient) -> None:
    def running() -> list[str]:
        found = client.containers.list(filters={"label": "slipway.one-off"})
        return [str(each.id) for each in found]

    with leaving(alice, f"ssh --app {window.app} 'echo begun; exec sleep 600'") as lines:
        assert wait_for(lines, "begun")
        assert len(running()) == 1
    until(lambda: running() == [])


@contextmanager
def leaving(person: Person, line: str) -> Iterator[Iterator[str]]:
    """Run a command over SSH, yield its lines, and leave without waiting for its end."""
    with subprocess.Popen(
        ["ssh", HOST, line],
        env=person.environment,
        cwd=person.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        try:
            yield (said.rstrip("\n") for said in client.stdout)
        finally:
            client.terminate()


def wait_for(lines: Iterator[str], wanted: str) -> bool:
    """Return whether a line comes before the end of all lines."""
    return any(line == wanted for line in lines)


def test_what_is_broken_by_hand_is_mended(
    shop: Repo, alice: Person, client: docker.DockerClient, slipway: Server
) -> None:
    url = show(alice, shop.app)["url"]

    def containers() -> dict[str, str]:
        mine = client.containers.list(filters={"label": f"slipway.app={shop.app}"})
        return {each.labels["slipway.service"]: str(each.id) for each in mine}

    before = containers()
    assert set(before) == {"web", "worker"}
    client.containers.get(before["web"]).remove(force=True)
    client.containers.get(before["worker"]).stop(timeout=0)
    until(lambda: set(containers()) == {"web", "worker"} and answers(url), seconds=60)
    after = containers()
    assert after["web"] != before["web"]
    assert after["worker"] == before["worker"]
    proxy = int((slipway.data / "proxy" / "haproxy.pid").read_text().split()[0])
    os.kill(proxy, signal.SIGKILL)
    until(lambda: answers(url), seconds=60)
    shop.commit({"version": "two"})
    assert shop.push().returncode == 0
    assert answer(url)["version"] == "two"


def test_an_app_answers_at_further_host_names_that_nobody_else_has(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    free_port: Callable[[], int],
    registry: Registry,
    private_base: str,
) -> None:
    port = free_port()
    server = new_server(SLIPWAY_DOMAIN="apps.example.test", SLIPWAY_HTTP=f"127.0.0.1:{port}")
    carol, dan = person("carol"), person("dan")
    for tenant, name in ((carol, "bakery"), (dan, "bookshop")):
        server.add_user(tenant)
        create(tenant, name, registry.username, registry.password.reveal())
    bakery = Repo(carol, "bakery")
    bakery.commit(files(private_base, "one"))
    assert bakery.push().returncode == 0

    def status(host: str) -> int:
        try:
            with urlopen(Request(f"http://127.0.0.1:{port}/", headers={"Host": host}), timeout=20) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status("www.bakery.example") == 503
    made = carol.ssh("endpoints:create", "--app", "bakery", "WWW.bakery.example")
    assert (made.returncode, made.stdout) == (0, f"http://www.bakery.example:{port}\n"), made.stderr
    until(lambda: status("www.bakery.example") == 200)  # the push may not be over yet for the server
    assert status("bakery.apps.example.test") == 200
    assert [row["url"] for row in read(carol, "endpoints", "--app", "bakery")] == [
        f"http://bakery.apps.example.test:{port}",
        f"http://www.bakery.example:{port}",
    ]
    for host, why in (
        ("www.bakery.example", "leads to an app already"),
        ("bakery.apps.example.test", "belong to the apps that are called so"),
        ("a b", "is not a host name"),
        ("x }\n use_backend app-1", "is not a host name"),
    ):
        refused = dan.ssh("endpoints:create", "--app", "bookshop", host)
        assert refused.returncode != 0
        assert why in refused.stderr
    assert dan.ssh("endpoints:remove", "--app", "bookshop", "www.bakery.example").returncode == 2
    bakery.commit({"version": "two"})
    assert bakery.push().returncode == 0
    assert status("www.bakery.example") == 200, "a release keeps it"
    assert carol.ssh("endpoints:remove", "--app", "bakery", "www.bakery.example").returncode == 0
    # The former release may still be draining, which is part of its operation.
    until(lambda: status("www.bakery.example") == 503, seconds=60)
    assert status("bakery.apps.example.test") == 200
