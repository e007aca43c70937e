"""Roles hold at every door: Git, commands over SSH, and for whoever may grant them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.person import Person
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
