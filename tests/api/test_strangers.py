"""What a second tenant and somebody who may only look get, and what happens to nonsense."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from demo.person import Person
from demo.server import Server
from tests.api.public_client import PublicClient

Client = Callable[..., PublicClient]
Shop = tuple[PublicClient, dict[str, Any]]


@pytest.fixture
def shop(client: Client, alice: Person, handle: str) -> Shop:
    """An app of alice's, with config that was never deployed, and an operation."""
    api = client(alice)
    api.apps_create(handle, "alice")
    done, _ = api.operate(handle, type="configure", env={"TOKEN": "sesame"})
    return api, {"app": api.app(handle), "operation": done}


def test_a_second_tenant_finds_nothing_of_the_first(client: Client, bob: Person, shop: Shop) -> None:
    theirs = client(bob)
    app, operation = shop[1]["app"], shop[1]["operation"]
    hrefs = [
        app["_links"][name]["href"]
        for name in ("self", "operations", "services", "vhosts", "current_configuration", "account")
    ]
    hrefs += [operation["_links"][name]["href"] for name in ("self", "logs", "ssh_portal_connections")]
    hrefs += [f"/vhosts/{2 * app['id'] - 1}", f"/accounts/{app['_links']['account']['href'].split('/')[-1]}/databases"]
    hrefs += [f"/find/app?handle={app['handle']}", "/find/account?handle=alice"]
    for href in hrefs:
        answer = theirs.ask("GET", href, sensitive=True)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), href
        nowhere = theirs.ask(
            "GET", re.sub(r"(?<!/)/\d+", "/999999", href).replace(app["handle"], "no-such").replace("=alice", "=none")
        )
        assert nowhere.status_code == 404
        # The same words about what is somebody else's and what there is not, but for the name that was asked for.
        assert re.sub(r"'?[\w-]*\d[\w-]*'?|'\w+'|'no-such'", "", answer.json()["message"]) == re.sub(
            r"'?[\w-]*\d[\w-]*'?|'\w+'|'no-such'", "", nowhere.json()["message"]
        )
    for method, href, body in [
        ("POST", app["_links"]["operations"]["href"], {"type": "restart"}),
        ("POST", app["_links"]["operations"]["href"], {"type": "logs"}),
        ("PUT", app["_links"]["self"]["href"], {"handle": "mine"}),
        ("PUT", operation["_links"]["self"]["href"], {"cancelled": True}),
        ("POST", operation["_links"]["ssh_portal_connections"]["href"], {"ssh_public_key": "x"}),
        ("POST", f"{app['_links']['account']['href']}/apps", {"handle": "mine"}),
    ]:
        assert theirs.ask(method, href, body).status_code == 404, (method, href)
    assert [each["handle"] for each in theirs.everything("/accounts")] == ["bob"]
    assert app["handle"] not in [each["handle"] for each in theirs.everything("/apps")]


def test_whoever_prefers_no_values_gets_none_however_they_say_so(shop: Shop) -> None:
    api, href = shop[0], shop[1]["app"]["_links"]["current_configuration"]["href"]
    for said, shown in [
        (None, True),
        ("no_sensitive_extras=false", True),
        ("no_sensitive_extras=true", False),
        ('respond-async, No_Sensitive_Extras = "true"', False),
    ]:
        headers = {"Authorization": f"Bearer {api.token}"} | ({"Prefer": said} if said else {})
        env = requests.get(href, headers=headers, timeout=20).json()["env"]
        assert env == ({"TOKEN": "sesame"} if shown else None), said


def test_who_may_look_sees_no_values_and_changes_nothing(
    client: Client, newcomer: Callable[[], Person], alice: Person, shop: Shop
) -> None:
    reader = newcomer()
    app = shop[1]["app"]
    granted = alice.ssh("access:grant", reader.name, "--app", app["handle"], "--role", "read")
    assert granted.returncode == 0, granted.stderr
    api = client(reader)
    assert api.app(app["handle"], "alice")["id"] == app["id"]
    assert api.follow(api.follow(app, "account"), "stack")["ssh_portal_port"] > 0
    href = app["_links"]["current_configuration"]["href"]
    assert api.read("GET", href)["env"] is None
    for answer in (
        api.ask("GET", href, sensitive=True),
        api.ask("POST", app["_links"]["operations"]["href"], {"type": "restart"}),
        api.ask("POST", app["_links"]["operations"]["href"], {"type": "execute", "command": "env"}),
        api.ask("PUT", app["_links"]["self"]["href"], {"handle": "mine"}),
        api.ask("POST", app["_links"]["operations"]["href"], {"type": "deprovision"}),
    ):
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
        assert "role" in answer.json()["message"]
    # The log of what was done may be watched.
    assert api.watch(shop[1]["operation"])[1].returncode == 0


def test_many_who_read_config_at_once_keep_nobody_waiting(shop: Shop, alice: Person) -> None:
    """Each reads and then writes into the audit log; once, fifty of them waited for each other's connections."""
    api, app = shop[0], shop[1]["app"]
    href = app["_links"]["current_configuration"]["href"]
    headers = {"Authorization": f"Bearer {api.token}"}

    def read(_number: int) -> int:
        return requests.get(href, headers=headers, timeout=20).status_code

    with ThreadPoolExecutor(50) as readers:
        reading = [readers.submit(read, number) for number in range(150)]
        assert alice.ssh("config", "--app", app["handle"]).stdout == "TOKEN=sesame\n"
        assert {each.result() for each in reading} == {200}


def test_a_portal_connection_goes_with_its_key_once_and_for_one_thing(
    client: Client, alice: Person, bob: Person, shop: Shop
) -> None:
    api, operation = shop[0], shop[1]["operation"]
    words, made = api.connection(operation)
    # Another key, though its owner has an account.
    theirs = [str(bob.key) if word == words[words.index("-i") + 1] else word for word in words]
    assert api.connect(theirs).returncode == 255
    # Another thing: the words of a command make no difference.
    said = api.connect(words, "apps:deprovision", "--app", shop[1]["app"]["handle"])
    assert (said.returncode, said.stdout.splitlines()[0]) == (
        0,
        f"Operation {operation['id']}: configure of {shop[1]['app']['handle']}",
    )
    assert api.connect(words).returncode == 255
    # The key alone is nobody's.
    assert api.connect([word.replace(made["ssh_user"], "git") for word in words]).returncode == 255
    assert api.app(shop[1]["app"]["handle"])["status"] == "pending"


def test_the_address_of_a_log_is_good_for_that_log_and_not_for_long(shop: Shop) -> None:
    api, operation = shop[0], shop[1]["operation"]
    address = api.ask("GET", operation["_links"]["logs"]["href"]).text
    assert requests.get(address, timeout=20).text.startswith(f"Operation {operation['id']}: configure")
    expires = int(re.findall(r"expires=(\d+)", address)[0])
    assert 0 < expires - time.time() <= 300
    for forged in (
        address.replace(f"/operations/{operation['id']}/", "/operations/1/") if operation["id"] != 1 else address[:-1],
        address.replace(str(expires), str(expires + 1000)),
        address[:-1],
        re.sub("signature=.*", "signature=é", address),
    ):
        assert requests.get(forged, timeout=20).status_code == 403
    assert requests.get(address.partition("?")[0], timeout=20).status_code == 422


NONSENSE: list[tuple[str, str, object, int]] = [
    ("POST", "operations", {}, 422),
    ("POST", "operations", {"type": "explode"}, 422),
    ("POST", "operations", {"type": "scale"}, 422),
    ("POST", "operations", {"type": ["deploy"]}, 422),
    ("POST", "operations", {"type": "configure"}, 422),
    ("POST", "operations", {"type": "configure", "env": {}}, 422),
    ("POST", "operations", {"type": "configure", "env": {"A=B": "x"}}, 422),
    ("POST", "operations", {"type": "configure", "env": {"--app": "x"}}, 422),
    ("POST", "operations", {"type": "configure", "env": {"-": "x"}}, 422),
    ("POST", "operations", {"type": "configure", "env": {"": "x"}}, 422),
    ("POST", "operations", {"type": "configure", "env": {"A": "x" * 65_537}}, 422),
    ("POST", "operations", {"type": "configure", "env": {"A": "\0"}}, 422),
    ("POST", "operations", {"type": "configure", "env": "A=B"}, 422),
    ("POST", "operations", {"type": "deploy"}, 422),
    ("POST", "operations", {"type": "deploy", "git_ref": "--help"}, 422),
    ("POST", "operations", {"type": "deploy", "git_ref": "0" * 40}, 422),
    ("POST", "operations", {"type": "deploy", "git_ref": "a\0b"}, 422),
    ("POST", "operations", {"type": "deploy", "git_ref": "\ud800"}, 422),
    ("POST", "operations", {"type": "configure", "env": {"A": "\ud800"}}, 422),
    ("PUT", "self", {"handle": "\ud800"}, 422),
    ("POST", "operations", {"type": "deploy", "settings": {"OTHER": "x"}}, 422),
    ("POST", "operations", {"type": "deploy", "git_ref": "x", "instance_profile": "r"}, 422),
    ("POST", "operations", {"type": "deploy", "git_ref": "x", "container_count": -1}, 422),
    ("POST", "operations", {"type": "restart"}, 201),
    ("PUT", "self", {}, 422),
    ("PUT", "self", {"handle": "Not a name"}, 422),
    ("PUT", "self", {"handle": "--help"}, 422),
    ("DELETE", "self", None, 405),
    ("GET", "services", None, 200),
]


def test_nonsense_is_told_to_be_nonsense(shop: Shop) -> None:
    api, app = shop[0], shop[1]["app"]
    for method, relation, body, status in NONSENSE:
        answer = api.ask(method, app["_links"][relation]["href"], body)
        assert answer.status_code == status, (method, body, answer.text)
        if status >= 400:
            told = answer.json()
            assert set(told) == {"code", "error", "message"}
            assert told["code"] == status
            assert told["message"]
            assert "Traceback" not in told["message"]
    for number in ("0", "-1", "9" * 30, "1e3", "%00"):
        assert api.ask("GET", f"/apps/{number}").status_code in (404, 422), number
    for href in ("/apps?per_page=0", "/apps?per_page=5001", "/apps?page=x", "/find/app", "/apps/x", "/nothing"):
        assert api.ask("GET", href).status_code in (404, 422), href
    broken = api._session.post(
        app["_links"]["operations"]["href"],
        data=b"{",
        headers={"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"},
        timeout=20,
    )
    assert (broken.status_code, broken.json()["error"]) == (400, "invalid_json")
    for authorization in ("Bearer", "Bearer x", "Basic eDp4", "Bearer é"):
        answer = requests.get(f"{api.root}/apps", headers={"Authorization": authorization.encode()}, timeout=20)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")


def test_a_request_that_is_too_large_is_not_read(slipway: Server) -> None:
    address = urlsplit(f"http://{slipway.api}")
    with socket.create_connection((address.hostname, address.port), timeout=20) as stranger:
        stranger.sendall(b"POST /tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert stranger.recv(4096).startswith(b"HTTP/1.1 413 ")
    portions = (b"x" * (1 << 20) for _ in range(20))
    answer = requests.post(f"http://{slipway.api}/tokens", data=portions, timeout=20)
    assert (answer.status_code, answer.json()["error"]) == (413, "request_entity_too_large")


def test_what_is_not_http_is_refused_in_the_same_form(slipway: Server) -> None:
    answer = requests.get(f"http://{slipway.api}/", headers={"Host": "a b/c"}, timeout=20)
    assert answer.status_code == 400
    address = urlsplit(f"http://{slipway.api}")
    with socket.create_connection((address.hostname, address.port), timeout=20) as stranger:
        stranger.sendall(b"nonsense\r\n\r\n")
        said = b"".join(iter(lambda: stranger.recv(4096), b""))
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"] == "bad_request"


def test_collections_come_in_pages(client: Client, newcomer: Callable[[], Person]) -> None:
    person = newcomer()
    api = client(person)
    account = api.read("GET", f"/find/account?handle={person.name}")
    made = [api.create(account, "apps", {"handle": f"{person.name}-{number}"})["handle"] for number in range(5)]
    assert [app["handle"] for app in api.everything("/apps?per_page=2")] == made
    page = api.read("GET", "/apps?per_page=2&page=2&no_embed=true")
    assert (page["total_count"], page["per_page"], page["current_page"]) == (5, 2, 2)
    assert set(page["_links"]) == {"self", "next", "prev"}
    assert [app["handle"] for app in page["_embedded"]["apps"]] == made[2:4]
    beyond = api.read("GET", "/apps?per_page=2&page=9")
    assert (beyond["_embedded"], "next" in beyond["_links"]) == ({"apps": []}, False)
    everything = api.read("GET", "/accounts?per_page=5000&no_embed=true")
    assert [each["total_app_count"] for each in everything["_embedded"]["accounts"]] == [5]
    assert json.dumps(everything).count(person.name) == 2
