"""One command, one change: code and config together by `git push -o`, or neither."""

from __future__ import annotations

from collections.abc import Callable

from demo.person import Person
from demo.server import Server
from tests.stories.web_app import answer, files, read, show
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]
SECRET = "correct-horse-battery-staple"


def config(person: Person, app: str) -> dict[str, str]:
    return dict(read(person, "config", "--app", app))


def test_code_and_config_are_one_operation_and_one_release(
    alice: Person, new_app: NewApp, private_base: str, slipway: Server
) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one"))
    assert shop.push("-o", "config=OLD=1", "master").returncode == 0
    url = show(alice, shop.app)["url"]
    assert answer(url)["environment"]["OLD"] == "1"
    before = len(read(alice, "operations", "--app", shop.app))
    shop.commit(files(private_base, "two"))
    options = [f"config=TOKEN={SECRET}", "config=OLD=", "config=A=b=c d", "force-zero-downtime"]
    pushed = shop.push(*(word for option in options for word in ("-o", option)), "master")
    assert pushed.returncode == 0, pushed.stderr
    now = answer(url)
    assert now["version"] == "two"
    assert (now["environment"]["TOKEN"], now["environment"]["A"]) == (SECRET, "b=c d")
    assert "OLD" not in now["environment"]
    assert len(read(alice, "operations", "--app", shop.app)) == before + 1
    assert show(alice, shop.app)["release"] == 2
    number = read(alice, "operations", "--app", shop.app)[0]["id"]
    assert SECRET not in pushed.stderr + alice.ssh("operation:logs", str(number)).stdout


def test_a_failed_deploy_changes_neither(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    first = shop.commit(files(private_base, "one"))
    assert shop.push("-o", "config=GREETING=hello", "master").returncode == 0
    url, before = show(alice, shop.app)["url"], config(alice, shop.app)
    shop.commit({"Dockerfile": f"FROM {private_base}\nRUN false\n"})
    failed = shop.push("-o", "config=GREETING=moin", "-o", "config=MORE=1", "master")
    assert failed.returncode != 0
    assert "[remote rejected]" in failed.stderr
    assert config(alice, shop.app) == before
    assert answer(url)["environment"]["GREETING"] == "hello"
    assert shop.remote_refs()["refs/heads/master"] == first
    assert show(alice, shop.app)["release"] == 1


def test_no_deploy_stores_for_a_deploy_later(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    first = shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    url = show(alice, shop.app)["url"]
    second = shop.commit(files(private_base, "two"))
    stored = shop.push("-o", "no-deploy", "master")
    assert stored.returncode == 0, stored.stderr
    assert answer(url)["version"] == "one"
    refs = shop.remote_refs()
    assert (refs["refs/heads/master"], refs["refs/heads/stored/master"]) == (first, second)
    deployed = alice.ssh("deploy", "--app", shop.app, "--git-commitish", "stored/master", "GREETING=moin")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    now = answer(url)
    assert (now["version"], now["environment"]["GREETING"]) == ("two", "moin")
    assert shop.remote_refs()["refs/heads/master"] == second
