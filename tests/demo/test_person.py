"""People use the real clients in homes of their own, and trust no server but the one they were told of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from demo.person import HostKeyError, Person
from demo.server import Server
from tests.world.working_copy import Repo


def test_a_person_is_not_the_machines_user(person: Callable[[str], Person]) -> None:
    alice = person("alice")
    assert alice.run(["git", "config", "user.name"]).stdout == "alice\n"
    configuration = alice.run(["ssh", "-G", "slipway"]).stdout.splitlines()
    assert f"identityfile {alice.key}" in configuration
    assert "stricthostkeychecking true" in configuration
    assert not any(
        "/root/" in line or str(Path.home()) in line for line in configuration if str(alice.home) not in line
    )


def test_a_working_copy_commits_what_it_is_given(person: Callable[[str], Person]) -> None:
    repo = Repo(person("alice"), "shop")
    first = repo.commit({"Dockerfile": "FROM scratch\n", "bin/blob": b"\0\xff"})
    second = repo.commit({"bin/blob": None})
    assert repo.git_ok("rev-list", "HEAD").splitlines() == [second, first]
    assert repo.git_ok("ls-tree", "-r", "--name-only", "HEAD") == "Dockerfile"
    assert repo.git_ok("remote", "get-url", "aptible") == "slipway:shop.git"


def test_a_server_with_another_key_is_not_trusted(slipway: Server, person: Callable[[str], Person]) -> None:
    alice = person("alice")
    with pytest.raises(HostKeyError, match=r"shows the host key '256 SHA256:.* instead of SHA256:A+$"):
        alice.trust(slipway.host, slipway.port, "SHA256:" + "A" * 43)
    assert not alice.known_hosts.exists()


def test_a_port_that_nobody_answers_at_is_not_trusted(
    person: Callable[[str], Person], free_port: Callable[[], int]
) -> None:
    alice = person("alice")
    with pytest.raises(HostKeyError, match="shows no host key"):
        alice.trust("127.0.0.1", free_port(), "SHA256:" + "A" * 43)
    assert not alice.known_hosts.exists()
