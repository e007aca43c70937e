"""Logging in and out: what a token is, who gets one, and how many guesses there are."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from console.api.errors import InvalidTokenError
from console.api.login import FAILURES, Attempts, TokenKey, TokenKeyError, TooManyAttemptsError
from demo.person import Person
from demo.server import Server
from store.tables import now
from store.tokens import Token
from store.users import User
from tests.api.conftest import PASSWORD
from tests.api.public_client import PublicClient

Client = Callable[..., PublicClient]
Newcomer = Callable[[], Person]


@pytest.mark.parametrize("form", [True, False])
def test_a_login_is_answered_with_a_signed_token(
    client: Client, newcomer: Newcomer, slipway: Server, form: bool
) -> None:
    person = newcomer()
    api = client(person)
    before = int(time.time())
    answer = api.log_in(person.name, PASSWORD, form=form, expires_in=600)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["_type"], body["token_type"], body["expires_in"], body["scope"]) == ("token", "bearer", 600, "manage")
    assert before + 599 <= body["expires_at"] <= before + 660
    assert answer.headers["Cache-Control"] == "no-store"
    claims = api.claims()
    assert claims["sub"].startswith(f"http://{slipway.api}/users/")
    me = api.follow(api.read("GET", "/current_token"), "user")
    assert (me["name"], me["email"]) == (person.name, f"{person.name}@example.com")
    # What it is signed with does not leave the server, so nobody can sign themselves in.
    header, payload, signature = api.token.split(".")
    api.token = ".".join([header, payload, signature[::-1]])
    assert api.ask("GET", "/apps").json()["error"] == "invalid_token"


def test_no_other_password_name_or_grant_lets_anybody_in(client: Client, newcomer: Newcomer) -> None:
    api = client(newcomer())
    api.token = ""
    for username, password in [("nobody", PASSWORD), ("newcomer", "x"), ("nobody", "x" * 1000)]:
        answer = api.log_in(username, password)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_credentials")
    answer = api.log_in("x", "y", grant_type="client_credentials")
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    wrong: list[tuple[bool, str, dict[str, object]]] = [
        (True, "", {}),
        (True, "x", {"expires_in": "soon"}),
        (False, "x", {"expires_in": -5}),
    ]
    for form, username, more in wrong:
        answer = api.log_in(username, PASSWORD, form=form, **more)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert PASSWORD not in answer.text
    for broken in ("{", "[]", "null", '"x"'):
        answer = api._session.post(f"{api.root}/tokens", data=broken, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_without_a_token_there_is_nothing(client: Client, newcomer: Newcomer, slipway: Server) -> None:
    api = client(newcomer())
    paths = api.ask("GET", "/openapi.json").json()["paths"]
    open_to_all = {("get", "/"), ("post", "/tokens"), ("get", "/operations/{operation_id}/log")}
    api.token = ""
    asked = 0
    for path, methods in paths.items():
        for method in methods:
            if (method, path) in open_to_all:
                continue
            body = {"handle": "x", "type": "restart", "cancelled": True, "ssh_public_key": "x"}
            answer = api.ask(method.upper(), _filled(path), body if method in ("post", "put") else None)
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.json()["error"] == "invalid_token"
            asked += 1
    assert asked > 25


def _filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", path) + ("?handle=x" if path.startswith("/find") else "")


def test_a_revoked_token_and_a_changed_password_end_the_login(client: Client, newcomer: Newcomer) -> None:
    person = newcomer()
    api, other = client(person), client(person)
    # Setting the password for the second client has logged the first one out.
    assert api.ask("GET", "/apps").json()["error"] == "invalid_token"
    listed = json.loads(person.ssh("tokens", "--json").stdout)
    assert [each["id"] for each in listed] == [other.claims()["jti"]]
    assert person.ssh("tokens:revoke", listed[0]["id"]).returncode == 0
    assert other.ask("GET", "/apps").json()["error"] == "invalid_token"
    assert other.log_in(person.name, PASSWORD).ok
    assert other.ask("DELETE", f"/tokens/{other.claims()['jti']}").status_code == 204
    assert other.ask("GET", "/apps").status_code == 401


def test_whoever_is_removed_is_logged_out_at_once(client: Client, newcomer: Newcomer, slipway: Server) -> None:
    person = newcomer()
    api = client(person)
    assert api.ask("GET", "/apps").status_code == 200
    slipway.administer("users", "remove", person.name)
    assert api.ask("GET", "/apps").json()["error"] == "invalid_token"
    assert api.log_in(person.name, PASSWORD).json()["error"] == "invalid_credentials"


def test_nobody_revokes_the_tokens_or_sets_the_password_of_another(client: Client, newcomer: Newcomer) -> None:
    alice, bob = newcomer(), newcomer()
    api, theirs = client(alice), client(bob)
    answer = theirs.ask("DELETE", f"/tokens/{api.claims()['jti']}")
    assert answer.status_code == 422
    assert api.ask("GET", "/apps").status_code == 200
    assert bob.ssh("users:password", alice.name, stdin="something else\n").returncode == 3
    assert bob.ssh("tokens:revoke", "--all", "--user", alice.name).returncode == 3
    assert theirs.ask("GET", api.claims()["sub"].removeprefix(api.root)).status_code == 404


def test_a_token_for_looking_changes_nothing(client: Client, newcomer: Newcomer) -> None:
    person = newcomer()
    api = client(person)
    assert api.log_in(person.name, PASSWORD, scope="read").json()["scope"] == "read"
    account = api.read("GET", f"/find/account?handle={person.name}")
    answer = api.ask("POST", account["_links"]["apps"]["href"], {"handle": "mine"})
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


def test_guesses_are_limited_and_told_when_to_come_back(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server(SLIPWAY_FRONT_DOORS="1")
    api = PublicClient(f"http://{server.api}", tmp_path)
    for _ in range(FAILURES):
        assert api.log_in("admin", "a wrong password").status_code == 401
    answer = api.log_in("admin", "a wrong password")
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_attempts")
    assert 0 < int(answer.headers["Retry-After"]) <= 300


def test_names_and_addresses_wait_apart() -> None:
    attempts = Attempts()
    for _ in range(FAILURES):
        attempts.check("name a", "address 1")
        attempts.failed("name a", "address 1")
    for whose in (("name a", "address 2"), ("name b", "address 1")):
        with pytest.raises(TooManyAttemptsError):
            attempts.check(*whose)
    attempts.check("name b", "address 2")
    attempts.succeeded("name a")
    attempts.check("name a", "address 2")


def test_an_expired_or_foreign_token_is_told_apart(tmp_path: Path) -> None:
    key = TokenKey.load(tmp_path / "token.key")
    assert (tmp_path / "token.key").stat().st_mode & 0o777 == 0o600
    user = User(1, "alice", admin=False, environment_id=1)
    moment = now()
    good = key.sign(Token("a", 1, "manage", moment, moment.replace(year=moment.year + 1)), user, None, "http://x")
    late = key.sign(Token("a", 1, "manage", moment, moment.replace(year=moment.year - 1)), user, None, "http://x")
    assert TokenKey.load(tmp_path / "token.key").read(good).token_id == "a"
    with pytest.raises(InvalidTokenError) as expired:
        key.read(late)
    assert expired.value.error == "expired_token"
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + good.split(".")[1] + "."
    other = TokenKey.load(tmp_path / "other.key").sign(
        Token("a", 1, "manage", moment, moment.replace(year=moment.year + 1)), user, None, "http://x"
    )
    for text in (unsigned, other, "", "a.b.c", "é", good + "x"):
        with pytest.raises(InvalidTokenError) as refused:
            key.read(text)
        assert refused.value.error == "invalid_token"


def test_a_damaged_or_readable_key_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    path.write_text("nonsense\n")
    path.chmod(0o600)
    with pytest.raises(TokenKeyError, match="damaged"):
        TokenKey.load(path)
    path.chmod(0o644)
    with pytest.raises(TokenKeyError, match="chmod 600"):
        TokenKey.load(path)
