"""A team deploys with `git push`: from a private base image, live log, atomic config, and back again."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.request import Request, urlopen

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.stories.web_app import answer, create, files, read, said, show, wait_until_operation
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]


def test_a_push_to_master_builds_from_a_private_base_image_and_the_app_answers(
    alice: Person, new_app: NewApp, private_base: str
) -> None:
    shop = new_app(alice)
    commit = shop.commit(files(private_base, "one"))
    pushed = shop.push()
    assert pushed.returncode == 0, pushed.stderr
    lines = said(pushed)
    app = show(alice, shop.app)
    assert lines[0].startswith("Operation ")
    assert commit in lines[0]
    assert any(line.startswith("  cancel: ssh") for line in lines)
    assert any(line.startswith("Step 1/") for line in lines), "the builder's own output is missing"
    assert any("done in" in line for line in lines)
    assert lines[-1] == app["url"]
    assert answer(app["url"])["version"] == "one"
    assert (app["status"], app["commit"], app["release"]) == ("provisioned", commit, 1)
    assert shop.remote_refs()["refs/heads/master"] == commit
    assert set(app) >= {"handle", "environment", "status", "url", "commit", "image", "release"}


def test_main_deploys_as_well_and_another_branch_or_a_tag_is_only_stored(
    alice: Person, new_app: NewApp, private_base: str
) -> None:
    shop = new_app(alice)
    first = shop.commit(files(private_base, "one"))
    for ref in ("master:feature/x", "master:refs/tags/v1"):
        stored = shop.push(ref)
        assert stored.returncode == 0, stored.stderr
        assert said(stored) == []
    assert show(alice, shop.app)["status"] == "pending"
    assert shop.push("master:main").returncode == 0
    assert show(alice, shop.app)["commit"] == first
    second = shop.commit(files(private_base, "two"))
    shop.git_ok("commit", "--amend", "--message", "another history", "--quiet")
    assert shop.push("+master:feature/x").returncode == 0
    assert shop.remote_refs()["refs/heads/main"] == first != second


def test_config_and_code_change_in_one_moment(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    url = show(alice, shop.app)["url"]
    assert alice.ssh("config:set", "--app", shop.app, "GREETING=hello").returncode == 0
    assert answer(url)["environment"]["GREETING"] == "hello"
    second = shop.commit(files(private_base, "two"))
    stored = shop.push("master:deploy-1")
    assert stored.returncode == 0
    assert answer(url)["version"] == "one"
    deployed = alice.ssh("deploy", "--app", shop.app, "--git-commitish", "deploy-1", "GREETING=moin", "MORE=1")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert deployed.stdout.splitlines()[-1] == url
    now = answer(url)
    assert (now["version"], now["environment"]["GREETING"], now["environment"]["MORE"]) == ("two", "moin", "1")
    assert shop.remote_refs()["refs/heads/master"] == second
    releases = read(alice, "releases", "--app", shop.app)
    assert [(row["number"], row["current"], row["config_version"]) for row in releases] == [
        (3, True, 3),
        (2, False, 2),
        (1, False, 1),
    ]
    assert set(releases[0]) >= {"number", "commit", "image", "config_version", "created_at", "current"}


def test_a_variable_is_read_and_removed_again(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    url = show(alice, shop.app)["url"]
    value = "two words, 'quotes' and $dollars\nand a second line"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    set_ = alice.ssh("config:set", "--app", shop.app, "-", stdin=f'A="{quoted}"\nB=1\n')
    assert set_.returncode == 0, set_.stdout
    assert answer(url)["environment"]["A"] == value
    assert alice.ssh("config:get", "--app", shop.app, "A").stdout == value + "\n"
    assert read(alice, "config", "--app", shop.app)["A"] == value
    printed = alice.ssh("config", "--app", shop.app).stdout
    sourced = alice.run(["sh", "-c", f'{printed}\nprintf %s "$A"'])
    assert sourced.stdout == value
    assert alice.ssh("config:unset", "--app", shop.app, "A").returncode == 0
    assert "A" not in answer(url)["environment"]
    assert alice.ssh("config:set", "--app", shop.app, "B=").returncode == 0
    assert "B" not in answer(url)["environment"]
    assert alice.ssh("config:get", "--app", shop.app, "A").returncode == 1


def test_containers_get_the_config_but_not_the_registry_credentials(
    alice: Person, new_app: NewApp, private_base: str
) -> None:
    shop = new_app(alice)
    commit = shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    environment = answer(show(alice, shop.app)["url"])["environment"]
    assert not [name for name in environment if "REGISTRY" in name]
    assert environment["APTIBLE_PROCESS_TYPE"] == "cmd"
    assert environment["APTIBLE_GIT_REF"] == commit


def test_restart_rebuild_and_rollback(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    first = shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    url = show(alice, shop.app)["url"]
    container = answer(url)["environment"]["HOSTNAME"]
    assert alice.ssh("restart", "--app", shop.app).returncode == 0
    assert answer(url)["environment"]["HOSTNAME"] != container
    assert show(alice, shop.app)["release"] == 1
    assert alice.ssh("rebuild", "--app", shop.app).returncode == 0
    assert show(alice, shop.app)["release"] == 2
    second = shop.commit(files(private_base, "two"))
    assert shop.push().returncode == 0
    assert alice.ssh("config:set", "--app", shop.app, "GREETING=hello").returncode == 0
    back = alice.ssh("rollback", "--app", shop.app, "2")
    assert back.returncode == 0, back.stdout
    assert "Step" not in back.stdout, "a rollback builds nothing"
    now = answer(url)
    assert now["version"] == "one"
    assert "GREETING" not in now["environment"], "config goes back with the code"
    assert shop.remote_refs()["refs/heads/master"] == first
    again = shop.push()
    assert again.returncode == 0, again.stderr
    assert answer(url)["version"] == "two"
    assert show(alice, shop.app)["commit"] == second
    numbers = [row["number"] for row in read(alice, "releases", "--app", shop.app)]
    assert numbers == [6, 5, 4, 3, 2, 1]


def test_services_of_a_procfile_move_together(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(
        files(private_base, "one")
        | {"Procfile": "web: python3 -u server.py\nworker: while sleep 1; do echo working; done\n"}
    )
    pushed = shop.push()
    assert pushed.returncode == 0, pushed.stderr
    url = show(alice, shop.app)["url"]
    assert answer(url)["environment"]["APTIBLE_PROCESS_TYPE"] == "web"
    shop.commit(
        files(private_base, "two") | {"Procfile": "web: python3 -u server.py\nworker: echo broken worker; exit 3\n"}
    )
    refused = shop.push()
    assert refused.returncode != 0
    assert "worker" in refused.stderr
    assert "broken worker" in refused.stderr
    assert answer(url)["version"] == "one"


def test_the_log_can_be_read_and_followed_later(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one"))
    lines = said(shop.push())
    operation = read(alice, "operations", "--app", shop.app)[0]
    assert set(operation) >= {"id", "type", "status", "app", "user", "created_at", "finished_at", "error"}
    logs = alice.ssh("operation:logs", str(operation["id"]))
    assert [line.rstrip() for line in logs.stdout.splitlines()] == lines
    followed = alice.ssh("operation:follow", str(operation["id"]))
    assert followed.stdout == logs.stdout
    assert followed.returncode == 0


def test_pushes_are_fetched_and_cloned_again(alice: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    commit = shop.commit(files(private_base, "one"))
    assert shop.push("master:feature").returncode == 0
    cloned = alice.run(["git", "clone", "--quiet", "--branch", "feature", f"slipway:{shop.app}.git", "copy"])
    assert cloned.returncode == 0, cloned.stderr
    assert alice.run(["git", "rev-parse", "HEAD"], folder=alice.home / "copy").stdout.strip() == commit


def test_with_a_domain_apps_answer_by_name(
    new_server: Callable[..., Server],
    person: Callable[[str], Person],
    free_port: Callable[[], int],
    registry: Registry,
    private_base: str,
) -> None:
    port = free_port()
    server = new_server(SLIPWAY_DOMAIN="apps.example.test", SLIPWAY_HTTP=f"127.0.0.1:{port}")
    carol = person("carol")
    server.add_user(carol)
    for name in ("shop", "cart"):
        create(carol, name, registry.username, registry.password.reveal())
        copy = Repo(carol, name)
        copy.commit(files(private_base, name))
        assert copy.push().returncode == 0
        assert show(carol, name)["url"] == f"http://{name}.apps.example.test:{port}"
    for name in ("shop", "cart"):
        asked = Request(f"http://127.0.0.1:{port}/", headers={"Host": f"{name}.apps.example.test"})
        with urlopen(asked, timeout=20) as response:
            assert json.loads(response.read())["version"] == name


def test_everything_said_of_an_operation_is_there_when_its_push_ends(
    alice: Person, new_app: NewApp, private_base: str
) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one"))
    shop.push()
    assert wait_until_operation(alice, shop.app, "succeeded", seconds=0)["error"] is None
