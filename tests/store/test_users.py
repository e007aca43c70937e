import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import access, apps, users
from store.apps import NoSuchAppError
from store.data_folder import DataFolder
from store.database import Store
from store.errors import RefusedError, UsageError
from store.handles import check_handle
from store.keys import PublicKey
from store.roles import Role, RoleTooLowError


def make_key(folder: Path, *words: str) -> str:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "bob at home", "-f", folder / "id", *words], check=True)
    return (folder / "id.pub").read_text()


@pytest.mark.parametrize("words", [("-t", "ed25519"), ("-t", "rsa", "-b", "2048"), ("-t", "ecdsa", "-b", "384")])
def test_a_key_is_read_as_ssh_keygen_shows_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    key = PublicKey.parse(make_key(tmp_path, *words))
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "id.pub"], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[1] == key.fingerprint
    assert key.comment == "bob at home"


def test_what_is_no_usable_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    good = make_key(tmp_path, "-t", "ed25519")
    kind, body, _ = good.split(None, 2)
    cases = {
        "private key": (tmp_path / "id").read_text(),
        "one public key": good + good,
        "one-line form": "hello",
        "cannot be used": f"ssh-dss {body}",
        "damaged": f"{kind} {body[:-8]}",
        "not of the type": f"ssh-rsa {body}",
    }
    for said, text in cases.items():
        with pytest.raises(UsageError, match=said):
            PublicKey.parse(text)


def test_a_short_rsa_key_is_refused() -> None:
    fields = [b"ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 128]
    blob = b"".join(len(field).to_bytes(4) + field for field in fields)
    with pytest.raises(UsageError, match="2048 bits"):
        PublicKey.parse("ssh-rsa " + base64.b64encode(blob).decode())


@given(st.text(max_size=300))
def test_any_text_is_a_key_or_refused_in_a_sentence(text: str) -> None:
    try:
        PublicKey.parse("ssh-ed25519 " + text)
    except UsageError as error:
        assert str(error)


@pytest.mark.parametrize(
    "handle", ["", ".", "..", "../up", "a/b", "A", "-a", "a-", "a" * 64, "a.b", "a b", "a\n", "ä", "a_b", "%2e"]
)
def test_a_handle_that_is_no_dns_label_is_refused(handle: str) -> None:
    with pytest.raises(UsageError, match="lower-case letters"):
        check_handle(handle, "an app's name")


def test_tenants_reach_their_own_apps_and_get_one_refusal_for_all_others(tmp_path: Path) -> None:
    store = Store.create(DataFolder(tmp_path / "data"))
    with store.write() as connection:
        alice, bob = users.add(connection, "alice"), users.add(connection, "bob")
        admin = users.add(connection, "root", admin=True)
        carol = users.add(connection, "carol", environment_handles=["alice"])
        apps.create(connection, alice, "shop", environment=None, ports=None, usable=lambda _: True)
        for user in (alice, carol, admin):
            assert apps.reachable(connection, user, "shop").environment == "alice"
        refusals = []
        for handle, environment in [("shop", None), ("shop", "alice"), ("none", None)]:
            with pytest.raises(RefusedError) as caught:
                apps.reachable(connection, bob, handle, environment)
            refusals.append(str(caught.value).replace(handle, "X"))
        assert len(set(refusals)) == 1
        with pytest.raises(RefusedError):
            apps.create(connection, bob, "cart", environment="alice", ports=None, usable=lambda _: True)


def test_of_two_roles_the_higher_one_counts_and_too_low_a_one_is_told(tmp_path: Path) -> None:
    store = Store.create(DataFolder(tmp_path / "data"))
    with store.write() as connection:
        alice, bob = users.add(connection, "alice"), users.add(connection, "bob")
        shop = apps.create(connection, alice, "shop", environment=None, ports=None, usable=lambda _: True)
        cart = apps.create(connection, alice, "cart", environment=None, ports=None, usable=lambda _: True)
        access.grant_app(connection, bob, shop.id, Role.DEPLOY)
        assert [app.handle for app in apps.of_user(connection, bob)] == ["shop"]
        access.grant_environment(connection, bob, alice.environment_id, Role.READ)
        assert [app.handle for app in apps.of_user(connection, bob)] == ["cart", "shop"]
        assert apps.reachable(connection, bob, "shop", need=Role.DEPLOY) == shop
        with pytest.raises(RoleTooLowError, match=r"role admin on the app shop, and yours is deploy.*--app shop"):
            apps.reachable(connection, bob, "shop", need=Role.ADMIN)
        with pytest.raises(RoleTooLowError, match="yours is read"):
            apps.reachable_by_id(connection, bob, cart.id, need=Role.DEPLOY)
        with pytest.raises(RoleTooLowError, match="--environment alice"):
            apps.create(connection, bob, "more", environment="alice", ports=None, usable=lambda _: True)
        access.grant_app(connection, bob, shop.id, Role.READ)
        with pytest.raises(RoleTooLowError):
            apps.reachable(connection, bob, "shop", need=Role.DEPLOY)
        access.revoke_environment(connection, bob, alice.environment_id)
        assert [app.handle for app in apps.of_user(connection, bob)] == ["shop"]
        access.revoke_app(connection, bob, shop.id)
        with pytest.raises(NoSuchAppError):
            apps.reachable(connection, bob, "shop")
        with pytest.raises(access.NoSuchGrantError):
            access.revoke_app(connection, bob, shop.id)
        assert [(grant.user, grant.app) for grant in access.grants(connection)] == [("alice", None), ("bob", None)]
