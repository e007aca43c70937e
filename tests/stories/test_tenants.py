"""A second tenant reaches nothing of the first: no app, no log, no image, no network."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import docker

from demo.person import Person
from demo.registry import Registry
from tests.stories.web_app import answer, create, files, read, show
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]


def test_another_tenants_app_looks_like_no_app(alice: Person, bob: Person, new_app: NewApp, private_base: str) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    operation = str(read(alice, "operations", "--app", shop.app)[0]["id"])
    commands = [
        ("apps:show", "--app"), ("config", "--app"), ("config:get", "X", "--app"), ("config:set", "X=1", "--app"),
        ("config:unset", "X", "--app"), ("deploy", "--docker-image", "x", "--app"), ("restart", "--app"),
        ("rebuild", "--app"), ("operations", "--app"), ("releases", "--app"), ("rollback", "1", "--app"),
    ]  # fmt: skip
    for words in commands:
        theirs, nobodys = bob.ssh(*words, shop.app), bob.ssh(*words, "no-such-app")
        assert theirs.returncode == nobodys.returncode == 3
        assert theirs.stderr.replace(shop.app, "X") == nobodys.stderr.replace("no-such-app", "X")
    for verb in ("logs", "follow", "cancel"):
        theirs, nobodys = bob.ssh(f"operation:{verb}", operation), bob.ssh(f"operation:{verb}", "999999")
        assert theirs.returncode == nobodys.returncode == 3
        assert theirs.stderr.replace(operation, "N") == nobodys.stderr.replace("999999", "N")
    assert [row["handle"] for row in read(bob, "apps") if row["handle"] == shop.app] == []
    refusals = []
    for path in (shop.app, f"alice/{shop.app}", f"bob/{shop.app}", "no-such-app", "../../1", "1"):
        listed = bob.run(["git", "ls-remote", f"slipway:{path}.git"])
        assert listed.returncode != 0
        refusals.append(listed.stderr.replace(f"{path}.git", "X"))
    assert len(set(refusals)) == 1
    pushed = Repo(bob, shop.app)
    pushed.commit({"a": "b"})
    assert pushed.push("master:feature").returncode != 0
    assert "refs/heads/feature" not in shop.remote_refs()


def test_a_private_image_on_the_engine_is_of_no_use_without_its_credentials(
    alice: Person, bob: Person, new_app: NewApp, private_base: str, registry: Registry, engine: str
) -> None:
    shop = new_app(alice)
    shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    repository = private_base.rsplit(":", 1)[0]
    with docker.APIClient(engine) as client:
        account = {"username": registry.username, "password": registry.password.reveal()}
        client.pull(private_base, auth_config=account)
        local = client.inspect_image(private_base)
        by_digest = next(name for name in local["RepoDigests"] if name.startswith(repository))
        built = client.inspect_image(show(alice, shop.app)["image"])["RepoTags"]
    assert built
    create(bob, "rider")
    rider = Repo(bob, "rider")
    for dockerfile in [
        f"FROM {private_base}\n",
        f"FROM {by_digest}\n",
        f"FROM {local['Id']}\n",
        f"FROM {built[0]}\n",
        f"ARG BASE={private_base}\nFROM $BASE\n",
        f"FROM scratch\nCOPY --from={private_base} /etc/passwd /\n",
        f"FROM scratch\nCOPY --from={by_digest} /etc/passwd /\n",
        f"FROM {private_base} AS a\nFROM a\n",
    ]:
        rider.commit({"Dockerfile": dockerfile + "CMD true\n"})
        pushed = rider.push()
        assert pushed.returncode != 0, dockerfile
        assert "Step" not in pushed.stderr, f"the builder ran for: {dockerfile}"
    for image in (private_base, by_digest):
        done = bob.ssh("deploy", "--app", "rider", "--docker-image", image)
        assert done.returncode == 1
        assert registry.host in done.stdout
    with docker.APIClient(engine) as client:
        client.remove_image(private_base)


def test_containers_of_different_apps_do_not_reach_each_other(
    alice: Person, bob: Person, new_app: NewApp, private_base: str, engine: str
) -> None:
    shop, probe = new_app(alice), new_app(bob)
    shop.commit(files(private_base, "one"))
    assert shop.push().returncode == 0
    container = answer(show(alice, shop.app)["url"])["environment"]["HOSTNAME"]
    with docker.APIClient(engine) as client:
        networks = client.inspect_container(container)["NetworkSettings"]["Networks"]
        address = ipaddress.ip_address(next(iter(networks.values()))["IPAddress"])
    attack = (
        "import socket, sys\ns = socket.socket(); s.settimeout(0.5)\n"
        f"sys.exit('REACHED' if s.connect_ex(('{address}', 8080)) == 0 else 'no way')\n"
    )
    probe.commit({"Dockerfile": f"FROM {private_base}\nCOPY . .\nCMD python3 attack.py\n", "attack.py": attack})
    pushed = probe.push()
    assert pushed.returncode != 0
    assert "no way" in pushed.stderr
    assert "REACHED" not in pushed.stderr


def test_names_are_unique_and_environments_are_ones_own(alice: Person, bob: Person) -> None:
    assert bob.ssh("apps:create", "bobs-own").returncode == 0
    assert read(bob, "apps:show", "--app", "bobs-own")["environment"] == "bob"
    assert bob.ssh("apps:create", "bobs-second", "--environment", "alice").returncode == 3
    taken = alice.ssh("apps:create", "bobs-own")
    assert taken.returncode == 1
    assert read(bob, "whoami") == {"name": "bob", "admin": False, "environments": ["bob"]}


def test_a_key_names_one_user(alice: Person, bob: Person) -> None:
    stolen = bob.ssh("keys:add", stdin=alice.public_key.read_text())
    assert stolen.returncode == 1
    assert "in use already" in stolen.stderr
    for_alice = bob.ssh("keys:add", "--user", "alice", stdin=bob.public_key.read_text())
    assert for_alice.returncode == 3
    assert [row["user"] for row in read(bob, "keys")] == ["bob"]


def test_a_second_key_works_until_it_is_removed(
    alice: Person, person: Callable[[str], Person], slipway: object
) -> None:
    laptop = person("laptop")
    laptop.known_hosts.write_text(alice.known_hosts.read_text())
    (laptop.home / ".ssh" / "config").write_text(
        (alice.home / ".ssh" / "config").read_text().replace(str(alice.home), str(laptop.home))
    )
    assert laptop.ssh("whoami").returncode == 255
    added = alice.ssh("keys:add", stdin=laptop.public_key.read_text())
    assert added.returncode == 0
    assert laptop.ssh("whoami").stdout.startswith("alice")
    fingerprint = next(row["fingerprint"] for row in read(alice, "keys") if row["comment"] == "laptop")
    assert alice.ssh("keys:remove", fingerprint).returncode == 0
    assert laptop.ssh("whoami").returncode == 255
