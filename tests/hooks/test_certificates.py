"""Managed certificates: from a real ACME server, through a real proxy, into real records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from hooks.addresses import Addresses
from hooks.certificates import RENEW_BEFORE, RETRY_AFTER, Certificates, NotManagedError, due
from releaser import certificate
from releaser.acme import Acme, AcmeError, new_account_key
from releaser.haproxy import Proxy
from releaser.haproxy_config import Listening
from releaser.releaser import Releaser
from store import acme_accounts, apps, endpoints, users
from store.apps import App
from store.data_folder import DataFolder
from store.database import Store
from store.endpoints import Endpoint
from store.secret import Secret
from tests.releaser.authority import Authority
from tests.world.pebble import Pebble, pebble

HOST = "www.shop.example"


@dataclass
class Court:
    """An app `shop` in records of its own, behind a proxy that answers the authority's questions."""

    store: Store
    app: App
    proxy: Proxy
    acme: Acme
    certificates: Certificates

    def endpoint(self) -> Endpoint:
        with self.store.read() as connection:
            (found,) = endpoints.of_app(connection, self.store.seal, self.app)
        return found

    def add(self, bundle: Secret) -> None:
        wanted = Endpoint(HOST, certificate=bundle, managed=True, redirect=True)
        with self.store.write() as connection:
            endpoints.add(connection, self.store.seal, self.app, wanted)


@pytest.fixture
def http_port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture
def authority(tmp_path: Path, http_port: int) -> Iterator[Pebble]:
    with pebble(tmp_path / "pebble", http_port) as running:
        yield running


@pytest.fixture
def court(tmp_path: Path, http_port: int, authority: Pebble, free_port: Callable[[], int]) -> Iterator[Court]:
    folder = DataFolder(tmp_path / "data")
    store = Store.create(folder)
    with store.write() as connection:
        user = users.add(connection, "alice", admin=True)
        app = apps.create(connection, user, "shop", environment=None, ports=None, usable=lambda _port: True)
        key = acme_accounts.key(connection, store.seal, authority.directory, new_account_key)
    with store.write() as connection:
        again = acme_accounts.key(connection, store.seal, authority.directory, new_account_key)
    assert again == key, "the account is made once"
    acme = Acme(authority.directory, key, email=None, ca_file=str(authority.ca_file))
    tls = free_port()
    listening = Listening(http_port=http_port, https_host="127.0.0.1", https_port=tls, acme_thumbprint=acme.thumbprint)
    proxy = Proxy(folder.proxy, listening)
    releaser = Releaser(engine=None, instance=store.instance(), proxy=proxy)
    addresses = Addresses("127.0.0.1", 22, http_port, "apps.example", tls)

    def mend(app: App) -> None:
        with store.read() as connection:
            ways_in = endpoints.of_app(connection, store.seal, app)
        releaser.announce(app.id, addresses.route(app, ways_in))

    proxy.start()
    yield Court(store, app, proxy, acme, Certificates(store, releaser, acme, mend))
    proxy.remove()
    store.close()


def test_a_certificate_is_issued_renewed_in_time_and_kept_when_that_fails(
    court: Court, authority: Pebble, http_port: int
) -> None:
    first = court.certificates.issue(HOST)
    assert "BEGIN PRIVATE KEY" in first.reveal()
    begin, end = certificate.validity(first)
    assert begin < datetime.now(UTC) < end
    court.add(first)
    court.certificates.renew_due()
    assert court.endpoint().certificate == first, "it is not due"
    court.certificates.renew_due(end - timedelta(days=29))
    second = court.endpoint()
    assert second.certificate is not None
    assert second.certificate != first
    assert (second.managed, second.redirect, second.renewal_error) == (True, True, None)
    (kept,) = court.proxy.routes()[court.app.id].route.endpoints
    assert kept.certificate is not None, "the proxy has it at once"
    challenge = f"http://127.0.0.1:{http_port}/.well-known/acme-challenge"
    headers = {"Host": HOST}
    answered = requests.get(f"{challenge}/token_1-x", headers=headers, timeout=20, allow_redirects=False)
    assert answered.text == f"token_1-x.{court.acme.thumbprint}", "also where plain HTTP is redirected"
    odd = requests.get(f"{challenge}/a/../b%22", headers=headers, timeout=20, allow_redirects=False)
    assert odd.status_code == 308

    court.proxy.stop()  # now nobody answers the challenge
    later = end + timedelta(days=9999)
    court.certificates.renew_due(later)
    failed = court.endpoint()
    assert failed.certificate == second.certificate
    assert failed.renewal_error is not None
    assert f"issued no certificate for {HOST} (connection: " in failed.renewal_error
    assert "let the host name's DNS lead to this server, and port 80 be open" in failed.renewal_error
    assert not due(failed, datetime.now(UTC) + RETRY_AFTER / 2)
    assert due(failed, later + RETRY_AFTER)
    with pytest.raises(AcmeError):
        court.certificates.renew(failed)


def test_an_authority_that_is_not_there_is_a_sentence(tmp_path: Path, free_port: Callable[[], int]) -> None:
    nobody = f"https://localhost:{free_port()}/dir"
    for ca_file in (None, str(tmp_path / "no-such-file.pem")):
        acme = Acme(nobody, new_account_key(), email="ops@example.com", ca_file=ca_file)
        with pytest.raises(AcmeError, match=r"does not answer as it should .*SLIPWAY_ACME_DIRECTORY"):
            acme.order(HOST)


def test_without_an_authority_nothing_is_managed(tmp_path: Path) -> None:
    store = Store.create(DataFolder(tmp_path / "data"))
    releaser = Releaser(engine=None, instance=store.instance(), proxy=Proxy(tmp_path / "proxy"))
    with pytest.raises(NotManagedError, match="SLIPWAY_ACME_DIRECTORY"):
        Certificates(store, releaser, None, lambda _app: None).issue(HOST)
    store.close()


@pytest.mark.parametrize(
    ("days", "left", "expected"),
    [((-60, 30), 31, False), ((-60, 30), 29, True), ((-3, 3), 3, False), ((-3, 3), 1, True), ((-9, 1), -1, True)],
)
def test_short_lives_are_renewed_in_proportion(days: tuple[int, int], left: int, expected: bool) -> None:
    assert timedelta(days=30) == RENEW_BEFORE
    made = certificate.bundle(Authority().bundle(HOST, days=days), HOST)
    now = certificate.validity(made)[1] - timedelta(days=left)
    assert due(Endpoint(HOST, certificate=made, managed=True), now) is expected
