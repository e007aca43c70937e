"""Certificates in a data folder: a backup carries them, and `slipway doctor` tells which ones end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from console.backup import back_up, restore
from demo.server import PROGRAM
from releaser import certificate
from releaser.acme import new_account_key
from store import acme_accounts, apps, endpoints, users
from store.data_folder import DataFolder
from store.database import Store
from store.endpoints import Endpoint
from store.secret import Secret
from tests.releaser.authority import Authority

HOST = "www.shop.example"
DIRECTORY = "https://acme.example/directory"


@pytest.fixture
def folder_with(tmp_path: Path) -> Callable[[Secret], DataFolder]:
    def make(bundle: Secret) -> DataFolder:
        folder = DataFolder(tmp_path / "data")
        store = Store.create(folder)
        with store.write() as connection:
            alice = users.add(connection, "alice", admin=True)
            app = apps.create(connection, alice, "shop", environment=None, ports=None, usable=lambda _port: True)
            wanted = Endpoint(HOST, certificate=bundle, managed=True, redirect=True)
            endpoints.add(connection, store.seal, app, wanted)
            endpoints.add(connection, store.seal, app, Endpoint(tcp_port=30001, service="db", container_port=5432))
            (made, _) = endpoints.of_app(connection, store.seal, app)
            endpoints.renewal_failed(connection, made, "the authority is on strike")
        store.close()
        return folder

    return make


def test_a_backup_carries_endpoints_certificates_and_the_account(
    folder_with: Callable[[Secret], DataFolder], tmp_path: Path
) -> None:
    bundle = certificate.bundle(Authority().bundle(HOST), HOST)
    folder = folder_with(bundle)
    store = Store.open(folder)
    with store.write() as connection:
        key = acme_accounts.key(connection, store.seal, DIRECTORY, new_account_key)
    store.close()
    back_up(folder, tmp_path / "archive")
    other = DataFolder(tmp_path / "other")
    assert restore(tmp_path / "archive", other) == ["shop"]
    store = Store.open(other)
    with store.write() as connection:
        shop = apps.by_handle(connection, "shop")
        web, database = endpoints.of_app(connection, store.seal, shop)
        assert (web.host, web.certificate, web.managed, web.redirect) == (HOST, bundle, True, True)
        assert (database.tcp_port, database.service, database.container_port) == (30001, "db", 5432)
        assert acme_accounts.key(connection, store.seal, DIRECTORY, new_account_key) == key
    store.close()


@pytest.mark.parametrize(("days", "near"), [(5, True), (60, False)])
def test_doctor_warns_of_a_certificate_that_ends(
    folder_with: Callable[[Secret], DataFolder], days: int, near: bool
) -> None:
    folder = folder_with(certificate.bundle(Authority().bundle(HOST, days=(-1, days)), HOST))
    done = subprocess.run(
        [*PROGRAM, "doctor", "--data", folder.root, "--router", "none"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    warned = f"PROBLEM  certificates: certificates end soon: {HOST} on "
    assert (warned in done.stdout) is near
    assert ("the authority is on strike" in done.stdout) is near
    assert ("ok       certificates: 1 certificates" in done.stdout) is not near
    assert "proxy" not in done.stdout, "without a router nobody misses HAProxy"
