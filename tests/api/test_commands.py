"""What the commands of Aptible's command line send, played against a real server that deploys real apps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import requests

from demo.person import Person
from demo.registry import Registry
from tests.api.conftest import credentials
from tests.api.public_client import PublicClient, RefusalError
from tests.stories.web_app import answer, files
from tests.world.working_copy import Repo

Client = Callable[..., PublicClient]

NULL_COMMIT = "0" * 40
"""What the command line sends for --git-detach."""


@pytest.mark.parametrize("accept", ["json", "hal"])
def test_an_app_from_its_first_deploy_to_its_end(
    client: Client, alice: Person, handle: str, image: str, registry: Registry, accept: str
) -> None:
    api = client(alice, accept)
    made = api.apps_create(handle, "alice")
    assert (made["_type"], made["handle"], made["status"]) == ("app", handle, "pending")
    assert made["_embedded"]["services"] == []
    assert "current_configuration" not in made["_links"]
    assert api.config(handle) == {}
    with pytest.raises(RefusalError) as taken:
        api.apps_create(handle, "alice")
    assert (taken.value.status, "taken" in taken.value.body["message"]) == (422, True)

    configured, said = api.operate(handle, type="configure", env={"GREETING": "hello", "GONE": "soon"})
    assert (configured["status"], said.returncode) == ("succeeded", 0)
    assert api.config(handle) == {"GREETING": "hello", "GONE": "soon"}

    # New clients send image and credentials as settings, older ones in the config.
    known: dict[str, dict[str, str]] = {
        "settings": {"APTIBLE_DOCKER_IMAGE": image},
        "sensitive_settings": credentials(registry),
    }
    if accept == "hal":
        known = {"env": {"APTIBLE_DOCKER_IMAGE": image, **credentials(registry)}}
    known["env"] = {"COLOR": "red", "GONE": "", **known.get("env", {})}
    deployed, said = api.operate(handle, type="deploy", container_count=1, container_size=256, **known)
    assert (deployed["status"], said.returncode) == ("succeeded", 0), said.stdout
    assert said.stdout.startswith(f"Operation {deployed['id']}: deploy of {handle}\n")
    url = said.stdout.splitlines()[-1]
    ran = answer(url)
    assert (ran["version"], ran["environment"]["COLOR"], ran["environment"]["GREETING"]) == ("one", "red", "hello")
    assert api.config(handle) == {"GREETING": "hello", "COLOR": "red"}

    app = api.app(handle, "alice")
    assert (app["status"], app["deployment_method"]) == ("provisioned", "docker_image")
    assert {each["process_type"]: each["container_memory_limit_mb"] for each in app["_embedded"]["services"]} == {
        "web": 256,
        "worker": 256,
    }
    setting = api.read("GET", app["_links"]["current_setting"]["href"], sensitive=True)
    assert (setting["settings"], setting["sensitive_settings"]) == (
        {"APTIBLE_DOCKER_IMAGE": image},
        credentials(registry),
    )
    hidden = api.follow(app, "current_setting")
    assert registry.password.reveal() not in json.dumps(hidden)
    assert api.follow(app, "current_configuration")["env"] is None

    scaled, said = api.scale(handle, "worker", container_count=0, instance_profile="m")
    assert (scaled["type"], scaled["status"], said.returncode) == ("scale", "succeeded", 0)
    counts = {each["process_type"]: each["container_count"] for each in api.app(handle)["_embedded"]["services"]}
    assert counts == {"web": 1, "worker": 0}

    shown = api.portal(api.create(app, "operations", {"type": "execute", "command": "echo $COLOR; exit 7"}), "-T")
    assert (shown.stdout, shown.returncode) == ("red\n", 7)

    renamed = api.read("PUT", app["_links"]["self"]["href"], {"handle": f"{handle}-new"})
    assert renamed["handle"] == f"{handle}-new"
    ended, said = api.watch(api.create(renamed, "operations", {"type": "deprovision"}))
    assert (ended["status"], said.returncode) == ("succeeded", 0), said.stdout
    for href in (renamed["_links"]["self"]["href"], f"/find/app?handle={handle}-new"):
        assert api.ask("GET", href).status_code == 404
    assert "is gone" in log_of(api, ended)
    assert "resource" not in ended["_links"]


def log_of(api: PublicClient, operation: dict[str, Any]) -> str:
    """`operation:logs`: the address is asked for with a token, and read without."""
    told = api.ask("GET", operation["_links"]["logs"]["href"])
    assert told.status_code == 200
    return requests.get(told.text, timeout=20).text


def test_restart_and_rebuild_show_their_log_and_end_with_their_outcome(
    client: Client, alice: Person, running: str
) -> None:
    api = client(alice)
    for kind in ("restart", "rebuild"):
        done, said = api.operate(running, type=kind)
        assert (done["type"], done["status"], said.returncode) == (kind, "succeeded", 0)
        assert "Released version" in said.stdout
    assert [each["type"] for each in api.everything(f"{api.app(running)['_links']['operations']['href']}?per_page=1")][
        :2
    ] == ["rebuild", "restart"]


def test_a_failed_deploy_fails_for_the_client_too_and_changes_nothing(
    client: Client, alice: Person, running: str
) -> None:
    api = client(alice)
    before = api.config(running)
    failed, said = api.operate(
        running, type="deploy", settings={"APTIBLE_DOCKER_IMAGE": "127.0.0.1:1/no/such:1"}, env={"A": "1"}
    )
    assert (failed["status"], failed["cancelled"]) == ("failed", False)
    assert said.returncode == 1
    assert "Error: " in said.stdout
    assert failed["error"] in log_of(api, failed)
    assert api.config(running) == before


def test_the_logs_of_an_app_come_through_the_portal(client: Client, alice: Person, running: str) -> None:
    api = client(alice)
    session = api.create(api.app(running), "operations", {"type": "logs", "status": "succeeded"})
    assert session["status"] == "succeeded"
    words, made = api.connection(session)
    assert made["ssh_pty"] is False
    with subprocess.Popen([*words, "-T"], stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin"}) as shown:
        assert shown.stdout
        line = shown.stdout.readline()
        shown.terminate()
    assert line == "web | serving one\n"


def test_a_waiting_or_running_operation_is_cancelled(client: Client, alice: Person, running: str) -> None:
    api = client(alice)
    app = api.app(running)
    deploy = api.create(app, "operations", {"type": "configure", "env": {"NEVER": "well"}})
    behind = api.create(app, "operations", {"type": "restart"})
    cancelled = api.read("PUT", behind["_links"]["self"]["href"], {"cancelled": True})
    assert (cancelled["status"], cancelled["cancelled"]) == ("failed", True)
    api.watch(deploy)
    with pytest.raises(RefusalError) as over:
        api.read("PUT", deploy["_links"]["self"]["href"], {"cancelled": True})
    assert (over.value.status, "over already" in over.value.body["message"]) == (422, True)


def test_code_and_config_in_one_step_and_from_git_to_an_image(
    client: Client, alice: Person, handle: str, image: str, registry: Registry, private_base: str
) -> None:
    api = client(alice)
    api.apps_create(handle, "alice")
    api.operate(handle, type="configure", env=credentials(registry))
    copy = Repo(alice, handle)
    commit = copy.commit(files(private_base, "two"))
    assert copy.git("push", "aptible", "master:deploy-1").returncode == 0
    with pytest.raises(RefusalError) as unknown:
        api.operate(handle, type="deploy", git_ref="no-such-branch")
    assert unknown.value.status == 422
    done, said = api.operate(handle, type="deploy", git_ref="deploy-1", env={"COLOR": "blue"})
    assert (done["status"], said.returncode) == ("succeeded", 0), said.stdout
    ran = answer(said.stdout.splitlines()[-1])
    assert (ran["version"], ran["environment"]["COLOR"]) == ("two", "blue")
    app = api.app(handle)
    assert (app["deployment_method"], app["_embedded"]["current_image"]["git_ref"]) == ("git_deploy", commit)

    with pytest.raises(RefusalError) as attached:
        api.operate(handle, type="deploy", settings={"APTIBLE_DOCKER_IMAGE": image})
    assert "--git-detach" in attached.value.body["message"]
    done, said = api.operate(handle, type="deploy", git_ref=NULL_COMMIT, settings={"APTIBLE_DOCKER_IMAGE": image})
    assert done["status"] == "succeeded", said.stdout
    assert answer(said.stdout.splitlines()[-1])["version"] == "one"
    api.operate(handle, type="deprovision")


def test_sessions_need_a_release_and_a_command(client: Client, alice: Person, handle: str, running: str) -> None:
    api = client(alice)
    app = api.apps_create(handle, "alice")
    for fields in ({"type": "logs"}, {"type": "execute", "command": "true"}):
        with pytest.raises(RefusalError) as refused:
            api.create(app, "operations", fields)
        assert (refused.value.status, "not been deployed" in refused.value.body["message"]) == (422, True)
    with pytest.raises(RefusalError, match="takes a command"):
        api.create(api.app(running), "operations", {"type": "execute"})


def test_a_session_is_for_whoever_asked_for_it(client: Client, alice: Person, bob: Person, running: str) -> None:
    """What a command prints may be secret, so nobody else of the same app takes it away."""
    assert alice.ssh("access:grant", "bob", "--app", running, "--role", "deploy").returncode == 0
    try:
        api, theirs = client(alice), client(bob)
        session = api.create(api.app(running), "operations", {"type": "execute", "command": "echo mine"})
        with pytest.raises(RefusalError) as refused:
            theirs.connection(session)
        assert (refused.value.status, refused.value.body["error"]) == (403, "forbidden")
        assert theirs.read("GET", session["_links"]["self"]["href"])["command"] is None
        assert api.portal(session, "-T").stdout == "mine\n"
        # Once.
        again = api.portal(session, "-T")
        assert (again.stdout, again.returncode) == ("", 3)
    finally:
        assert alice.ssh("access:revoke", "bob", "--app", running).returncode == 0


def test_endpoints_are_shown_and_told_where_to_be_changed(client: Client, alice: Person, running: str) -> None:
    """`endpoints:list` goes from the app through its services to their vhosts."""
    assert alice.ssh("endpoints:create", "--app", running, "--tcp-port", "30777", "--service", "worker").returncode == 0
    api = client(alice)
    app = api.app(running)
    web, worker = app["_embedded"]["services"]
    (own,) = api.everything(web["_links"]["vhosts"]["href"])
    (tcp,) = api.everything(worker["_links"]["vhosts"]["href"])
    assert (own["type"], own["default"], own["status"]) == ("http", True, "provisioned")
    assert answer(f"http://{own['external_host']}")["version"] == "one"
    assert (tcp["type"], tcp["default"], tcp["external_host"].endswith(":30777")) == ("tcp", False, True)
    assert api.follow(tcp, "service")["id"] == worker["id"]
    assert api.everything(app["_links"]["vhosts"]["href"]) == [own, tcp]
    assert api.follow(tcp, "self") == tcp
    for resource, relation, fields, words in [
        (worker, "vhosts", {"type": "tcp"}, f"endpoints:create --app {running} --service worker"),
        (tcp, "operations", {"type": "deprovision"}, f"endpoints:remove --app {running} 30777"),
        (tcp, "operations", {"type": "renew"}, f"endpoints:renew --app {running} 30777"),
        (own, "operations", {"type": "deprovision"}, "own address"),
    ]:
        with pytest.raises(RefusalError) as refused:
            api.create(resource, relation, fields)
        assert (refused.value.status, words in refused.value.body["message"]) == (422, True)
    with pytest.raises(RefusalError, match="endpoints:modify"):
        api.read("PUT", tcp["_links"]["self"]["href"], {"container_port": 80})
    assert alice.ssh("endpoints:remove", "--app", running, "30777").returncode == 0
    assert api.ask("GET", tcp["_links"]["self"]["href"]).status_code == 404
    assert api.everything(worker["_links"]["vhosts"]["href"]) == []


def test_whoever_looks_around_for_what_there_is_none_of_finds_nothing(client: Client, alice: Person) -> None:
    """`db:list`, `backup_retention_policy` and others follow a link of the environment, and crash without it."""
    api = client(alice)
    account = api.read("GET", "/find/account?handle=alice")
    for kind in ("databases", "log_drains", "metric_drains", "backup_retention_policies", "backups", "certificates"):
        assert api.everything(account["_links"][kind]["href"]) == []
        with pytest.raises(RefusalError) as refused:
            api.create(account, kind, {"handle": "x"})
        assert (refused.value.status, "there are no" in refused.value.body["message"]) == (422, True)
    assert api.ask("GET", f"{account['_links']['self']['href']}/nonsense").status_code == 404
