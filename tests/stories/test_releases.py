"""Services, their scale and their hooks: seen by who owns an app."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from demo.person import Person
from tests.stories.web_app import answer, files, read, said, show
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


@pytest.fixture
def shop(alice: Person, new_app: NewApp, private_base: str) -> Repo:
    """An app with two services and hooks, deployed."""
    shop = new_app(alice)
    shop.commit(files(private_base, "one") | {"Procfile": PROCFILE, ".aptible.yml": HOOKS})
    pushed = shop.push("-o", "config=GREETING=hello")
    assert pushed.returncode != 0, "push options come before the branch"
    pushed = shop.push("-o", "config=GREETING=hello", "master")
    assert pushed.returncode == 0, pushed.stderr
    return shop


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


def test_somebody_else_scales_and_sees_nothing(shop: Repo, bob: Person) -> None:
    for words in (
        ["services", "--app", shop.app],
        ["apps:scale", "--app", shop.app, "web", "--container-count", "0"],
        ["services:settings", "--app", shop.app, "worker", "--force-zero-downtime"],
    ):
        refused = bob.ssh(*words)
        assert refused.returncode == 3
        assert "there is no app" in refused.stderr
