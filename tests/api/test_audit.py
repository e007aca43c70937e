"""What is done over HTTP stands in the audit log as the same thing done over SSH does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from console.api.auth import NOBODY
from console.api.login import MOST_ENTERED, Attempts
from demo.person import Person
from demo.server import Server
from tests.api.conftest import PASSWORD
from tests.api.public_client import PublicClient, RefusalError

Client = Callable[..., PublicClient]
Newcomer = Callable[[], Person]

PLANTED = "pl4nted-in-a-request"

NO_IMAGE = "127.0.0.1:1/no/such:1"


def entries(server: Server, user: str, door: str) -> list[dict[str, Any]]:
    told = server.administer("audit", "--json", "--limit", "1000", "--user", user)
    assert PLANTED not in told
    assert PASSWORD not in told
    return [row for row in json.loads(told) if row["door"] == door]


def test_each_deed_is_entered_as_the_command_that_it_stands_for(
    client: Client, newcomer: Newcomer, handle: str, slipway: Server
) -> None:
    person = newcomer()
    api = client(person)
    before = len(entries(slipway, person.name, "ssh"))
    for words in [
        ("apps:create", f"{handle}-a"),
        ("config:set", "--app", f"{handle}-a", f"TOKEN={PLANTED}"),
        ("config", "--app", f"{handle}-a"),
        ("apps:rename", f"{handle}-a", f"{handle}-b"),
    ]:
        done = person.ssh(*words)
        assert done.returncode == 0, done.stderr
    assert person.ssh("deploy", "--app", f"{handle}-b", "--docker-image", NO_IMAGE, f"K={PLANTED}").returncode == 1
    assert person.ssh("apps:deprovision", "--app", f"{handle}-b").returncode == 0
    over_ssh = entries(slipway, person.name, "ssh")[before:]

    before = len(entries(slipway, person.name, "http"))
    app = api.apps_create(f"{handle}-a", person.name)
    api.operate(f"{handle}-a", type="configure", env={"TOKEN": PLANTED})
    assert api.config(f"{handle}-a") == {"TOKEN": PLANTED}
    renamed = api.read("PUT", app["_links"]["self"]["href"], {"handle": f"{handle}-b"})
    failed, _ = api.operate(
        f"{handle}-b", type="deploy", settings={"APTIBLE_DOCKER_IMAGE": NO_IMAGE}, env={"K": PLANTED}
    )
    assert failed["status"] == "failed"
    api.watch(api.create(renamed, "operations", {"type": "deprovision"}))
    over_http = entries(slipway, person.name, "http")[before:]

    def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [(row["action"], row["result"], row["app"], row["operation"] is not None) for row in rows]

    assert told(over_http) == told(over_ssh)
    details = [{row["action"]: set((row["detail"] or "").split()) for row in rows} for rows in (over_ssh, over_http)]
    for action, detail in details[0].items():
        assert detail <= details[1][action] | {f"environment={person.name}"}, action
    assert {row["address"] for row in over_http} == {"127.0.0.1"}
    assert "config=TOKEN" in details[1]["config:set"]
    of_app = json.loads(person.ssh("audit", "--app", f"{handle}-b", "--json").stdout or "[]")
    assert of_app == [], "there is no such app any more"


def test_whoever_looks_at_the_values_of_an_app_is_found_by_the_app(
    client: Client, newcomer: Newcomer, handle: str
) -> None:
    person = newcomer()
    api = client(person)
    api.apps_create(handle, person.name)
    api.operate(handle, type="configure", env={"TOKEN": PLANTED})
    api.config(handle)
    rows = json.loads(person.ssh("audit", "--app", handle, "--json").stdout)
    assert [(row["action"], row["door"]) for row in rows] == [
        ("apps:create", "http"),
        ("config:set", "http"),
        ("config", "http"),
    ]


def test_a_command_in_a_container_is_entered_when_it_is_asked_for_and_when_it_runs(
    client: Client, alice: Person, running: str, slipway: Server
) -> None:
    api = client(alice)
    before = {door: len(entries(slipway, "alice", door)) for door in ("http", "ssh")}
    session = api.create(api.app(running), "operations", {"type": "execute", "command": f"echo {PLANTED}"})
    assert api.portal(session, "-T").returncode == 0
    for door, count in before.items():
        (row,) = [row for row in entries(slipway, "alice", door)[count:] if row["action"] == "ssh"]
        assert (row["app"], row["result"]) == (running, "ok")


def test_every_refusal_is_entered(
    client: Client, alice: Person, newcomer: Newcomer, running: str, slipway: Server
) -> None:
    owner, stranger = client(alice), newcomer()
    api = client(stranger)
    app = owner.app(running)
    number = owner.follow(app, "operations")["_embedded"]["operations"][0]["id"]
    environment = owner.read("GET", "/find/account?handle=alice")
    href = app["_links"]["self"]["href"]
    asked: list[tuple[str, str, object, str]] = [
        ("GET", f"/find/app?handle={running}", None, "apps:show"),
        ("GET", href, None, "apps:show"),
        ("PUT", href, {"handle": "mine"}, "apps:rename"),
        ("POST", environment["_links"]["apps"]["href"], {"handle": "mine"}, "apps:create"),
        ("POST", f"{href}/operations", {"type": "configure", "env": {"A": PLANTED}}, "config:set"),
        ("POST", f"{href}/operations", {"type": "deprovision"}, "apps:deprovision"),
        ("POST", f"{href}/operations", {"type": "execute", "command": PLANTED}, "ssh"),
        ("GET", f"/operations/{number}", None, "operations"),
        ("GET", f"/operations/{number}/logs", None, "operation:logs"),
        ("PUT", f"/operations/{number}", {"cancelled": True}, "operation:cancel"),
        ("POST", f"/operations/{number}/ssh_portal_connections", {"ssh_public_key": "x"}, "operation:follow"),
    ]
    before = len(entries(slipway, stranger.name, "http"))
    for method, address, body, _ in asked:
        assert api.ask(method, address, body).status_code == 404, (method, address)
    rows = entries(slipway, stranger.name, "http")[before:]
    assert [(row["action"], row["result"]) for row in rows] == [(action, "refused") for *_, action in asked]

    # With a role that is too low, and with a token that is for looking only.
    assert alice.ssh("access:grant", stranger.name, "--app", running, "--role", "read").returncode == 0
    try:
        with pytest.raises(RefusalError) as refused:
            api.create(api.app(running), "operations", {"type": "restart"})
        assert refused.value.status == 403
        assert api.ask("PUT", f"/operations/{number}", {"cancelled": True}).status_code == 403
    finally:
        assert alice.ssh("access:revoke", stranger.name, "--app", running).returncode == 0
    assert api.log_in(stranger.name, PASSWORD, scope="read").ok
    assert api.ask("POST", f"{href}/operations", {"type": "restart"}).status_code == 403
    rows = entries(slipway, stranger.name, "http")[before + len(asked) :]
    assert [(row["action"], row["result"], row["app"]) for row in rows] == [
        ("restart", "refused", running),
        ("operation:cancel", "refused", running),
        ("login", "ok", None),
        ("change", "refused", None),
    ]
    assert rows[-1]["detail"] == "POST /apps/{app_id}/operations"


def test_a_login_that_is_refused_is_entered_without_what_was_typed(
    client: Client, newcomer: Newcomer, slipway: Server
) -> None:
    person = newcomer()
    api = client(person)
    assert api.log_in(person.name, PLANTED).status_code == 401
    assert api.log_in(PLANTED, PASSWORD).status_code == 401
    rows = entries(slipway, person.name, "http")
    assert [(row["action"], row["result"], row["address"]) for row in rows] == [
        ("login", "ok", "127.0.0.1"),
        ("login", "refused", "127.0.0.1"),
    ]
    assert entries(slipway, NOBODY, "http")[-1]["action"] == "login"


def test_a_flood_of_wrong_passwords_does_not_fill_the_log() -> None:
    attempts = Attempts()
    assert [attempts.to_be_entered() for _ in range(2 * MOST_ENTERED)].count(True) == MOST_ENTERED
