"""Roles hold at every door: Git, commands over SSH, and for whoever may grant them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from demo.person import Person
from demo.server import Server
from tests.stories.web_app import create, read
from tests.world.working_copy import Repo

APP = "ledger"


@pytest.fixture(scope="module")
def _ledger(alice: Person) -> None:
    create(alice, APP)


@pytest.fixture
def ledger(alice: Person, bob: Person, _ledger: None) -> Iterator[str]:
    """An app of alice's, to which bob has no access before and after."""
    yield APP
    alice.ssh("access:revoke", "bob", "--app", APP)
    alice.ssh("access:revoke", "bob", "--environment", "alice")


def grant(alice: Person, role: str, *where: str) -> None:
    done = alice.ssh("access:grant", "bob", "--role", role, *where)
    assert done.returncode == 0, done.stderr


def test_a_reader_fetches_and_looks_and_changes_nothing(alice: Person, bob: Person, ledger: str) -> None:
    mine = Repo(alice, ledger)
    mine.commit({"a": "b"})
    assert mine.push("master:feature").returncode == 0
    assert alice.ssh("config:set", "--app", ledger, "A=visible-to-few").returncode == 0
    operation = str(read(alice, "operations", "--app", ledger)[0]["id"])
    grant(alice, "read", "--app", ledger)
    assert "refs/heads/feature" in bob.run(["git", "ls-remote", f"slipway:alice/{ledger}.git"]).stdout
    assert bob.ssh("apps:show", "--app", ledger).returncode == 0
    assert bob.ssh("operation:logs", operation).returncode == 0
    assert [row["handle"] for row in read(bob, "apps")] == [ledger]
    theirs = Repo(bob, ledger)
    theirs.commit({"c": "d"})
    pushed = theirs.push("master:stolen")
    assert pushed.returncode != 0
    assert "this takes the role deploy on the app ledger, and yours is read" in pushed.stderr
    for words in [
        ("config",), ("config:get", "A"), ("config:set", "A=b"), ("config:unset", "A"), ("deploy",), ("restart",),
        ("rebuild",), ("rollback",), ("apps:scale", "web", "--container-count", "2"), ("ssh", "true"),
    ]:  # fmt: skip
        refused = bob.ssh(words[0], "--app", ledger, *words[1:])
        assert refused.returncode == 3, words
        assert "takes the role deploy" in refused.stderr
        assert "visible-to-few" not in refused.stdout
    assert bob.ssh("operation:cancel", operation).returncode == 3
    assert bob.ssh("endpoints:create", "--app", ledger, "www.example.com").returncode in (2, 3)
    assert "takes the role admin" in bob.ssh("access:grant", "bob", "--app", ledger, "--role", "admin").stderr
    assert "refs/heads/stolen" not in mine.remote_refs()
    assert read(alice, "config", "--app", ledger) == {"A": "visible-to-few"}


def test_a_deployer_pushes_and_configures_and_lets_nobody_in(alice: Person, bob: Person, ledger: str) -> None:
    grant(alice, "read", "--app", ledger)
    grant(alice, "deploy", "--environment", "alice")
    assert bob.ssh("config:set", "--app", ledger, "B=2").returncode == 0, "of two roles the higher one counts"
    copy = Repo(bob, ledger)
    copy.commit({"e": "f"})
    assert copy.push("master:of-bob").returncode == 0
    for words in [("access:grant", "bob"), ("access:revoke", "alice")]:
        role = ("--role", "admin") if words[0] == "access:grant" else ()
        for where in [("--app", ledger), ("--environment", "alice")]:
            refused = bob.ssh(*words, *where, *role)
            assert refused.returncode == 3
            assert "takes the role admin" in refused.stderr
    refused = bob.ssh("apps:create", "more", "--environment", "alice")
    assert refused.returncode == 3
    assert "access:grant bob --environment alice --role admin" in refused.stderr


def test_a_role_that_is_taken_away_leaves_no_trace_of_the_app(alice: Person, bob: Person, ledger: str) -> None:
    grant(alice, "admin", "--app", ledger)
    assert {row["user"] for row in read(bob, "access") if row["app"] == ledger} == {"bob"}
    assert bob.ssh("access:revoke", "bob", "--app", ledger).returncode == 0
    gone, never = bob.ssh("apps:show", "--app", ledger), bob.ssh("apps:show", "--app", "never-was")
    assert gone.returncode == never.returncode == 3
    assert gone.stderr.replace(ledger, "X") == never.stderr.replace("never-was", "X")
    assert not [row for row in read(bob, "access") if row["app"]]
    for where in [("--app", ledger), ("--environment", "alice"), ("--environment", "never-was")]:
        assert bob.ssh("access:grant", "bob", *where, "--role", "read").returncode == 3
    wrong = alice.ssh("access:grant", "bob", "--app", ledger, "--role", "owner")
    assert wrong.returncode == 2
    assert "read, deploy, admin" in wrong.stderr
    assert alice.ssh("access:grant", "nobody", "--app", ledger, "--role", "read").returncode == 1
    assert alice.ssh("access:grant", "bob", "--role", "read").returncode == 2


def test_what_is_about_the_whole_server_is_for_its_administrators(alice: Person) -> None:
    for words in [("users",), ("users:add", "x"), ("gc",), ("environments:create", "x")]:
        refused = alice.ssh(*words)
        assert refused.returncode == 3, words
        assert "administrators of the server" in refused.stderr
    assert [row["handle"] for row in read(alice, "environments")] == ["alice"]


def test_the_audit_log_tells_who_did_what_from_where_and_no_secret(
    alice: Person, bob: Person, ledger: str, slipway: Server
) -> None:
    planted = "pl4nted-where-nobody-looks"
    copy = Repo(alice, ledger)
    copy.commit({"g": "h"})
    assert copy.push("master:audited").returncode == 0
    assert alice.ssh("config:set", "--app", ledger, f"TOKEN={planted}").returncode == 0
    assert alice.ssh("config:set", "--app", ledger, planted).returncode == 2
    assert bob.ssh("config:set", "--app", ledger, f"TOKEN={planted}").returncode == 3
    grant(alice, "read", "--app", ledger)
    assert bob.ssh("config:set", "--app", ledger, f"TOKEN={planted}").returncode == 3
    assert bob.run(["git", "ls-remote", "slipway:never-was.git"]).returncode != 0
    assert bob.ssh("audit", "--app", ledger).returncode == 3
    assert bob.ssh("audit").returncode == 3
    seen = read(alice, "audit", "--app", ledger, "--since", "1h")
    told = [(row["user"], row["action"], row["result"], row["door"]) for row in seen]
    for expected in [
        ("alice", "apps:create", "ok", "ssh"),
        ("alice", "git-receive-pack", "ok", "git"),
        ("alice", "config:set", "ok", "ssh"),
        ("bob", "config:set", "refused", "ssh"),
        ("alice", "access:grant", "ok", "ssh"),
    ]:
        assert expected in told
    assert all(row["address"] == "127.0.0.1" for row in seen)
    fingerprint = read(alice, "keys")[0]["fingerprint"]
    assert all(row["key"] == fingerprint for row in seen if row["user"] == "alice")
    assert [row["detail"] for row in seen if row["action"] == "git-receive-pack"][-1] == "refs/heads/audited"
    whole = slipway.administer("audit", "--json", "--limit", "1000")
    assert planted not in whole
    assert {(row["user"], row["app"], row["result"]) for row in json.loads(whole)} >= {("bob", "never-was", "refused")}
    assert "config=TOKEN" in whole


def test_a_key_expires_and_tells_when_it_was_used(
    alice: Person, slipway: Server, person: Callable[[str], Person]
) -> None:
    laptop = person("laptop-of-alice")
    slipway.introduce(laptop)
    text = laptop.public_key.read_text()
    assert alice.ssh("keys:add", "--expires", "yesterday", stdin=text).returncode == 2
    assert alice.ssh("keys:add", "--expires", "2020-01-01", stdin=text).returncode == 2
    added = alice.ssh("keys:add", "--expires", "30", stdin=text)
    assert added.returncode == 0, added.stderr
    assert laptop.ssh("whoami").stdout.startswith("alice")
    fingerprint = added.stdout.split()[1]

    def key() -> dict[str, str | None]:
        return next(row for row in read(alice, "keys") if row["fingerprint"] == fingerprint)

    assert str(key()["expires_at"]) > "2026"
    deadline = time.monotonic() + 30
    while key()["last_used_at"] is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert key()["last_used_at"] is not None
    # The day has come: nothing tells the key from one that nobody has.
    stranger = person("stranger")
    slipway.introduce(stranger)
    with closing(sqlite3.connect(slipway.data / "slipway.db")) as records:
        records.execute("UPDATE keys SET expires_at = '2020-01-01 00:00:00' WHERE fingerprint = ?", (fingerprint,))
        records.commit()
    expired, unknown = laptop.ssh("whoami"), stranger.ssh("whoami")
    assert expired.returncode == unknown.returncode == 255
    assert expired.stderr == unknown.stderr
    assert alice.ssh("keys:remove", fingerprint).returncode == 0


def test_a_user_who_is_removed_is_out_at_once_and_what_they_did_keeps_their_name(
    slipway: Server, alice: Person, person: Callable[[str], Person]
) -> None:
    dave = person("dave")
    slipway.add_user(dave)
    create(dave, "daves")
    assert dave.ssh("config:set", "--app", "daves", "A=b").returncode == 0
    waiting = subprocess.Popen(
        ["ssh", "slipway", "config:set", "--app", "daves", "-"],
        env=dave.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert alice.ssh("users:remove", "dave").returncode == 3
    slipway.administer("users", "remove", "dave")
    waiting.communicate("C=d\n", timeout=60)
    assert waiting.returncode != 0, "a connection that is open ends where the key does"
    assert dave.ssh("whoami").returncode == 255
    done = json.loads(slipway.administer("operations", "--app", "daves", "--json"))
    assert [row["user"] for row in done] == ["dave"]
    assert "dave" not in [row["name"] for row in json.loads(slipway.administer("users", "--json"))]
    # The name is free again; who gets it is somebody else.
    other = person("another-dave")
    other.name = "dave"
    slipway.add_user(other)
    assert other.ssh("whoami").stdout.startswith("dave")
