"""Certificates from a certificate authority over ACME (RFC 8555), with certbot's own client library.

The authority asks over plain HTTP for a file under `/.well-known/acme-challenge/` (section 8.3). What has to be in it
is made of the question and of the account's public key alone, so the proxy answers by itself, whoever asks, and nothing
has to be put anywhere before an order or taken away after it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import cast

import josepy.errors
from acme import challenges, crypto_util, errors, messages
from acme.client import ClientNetwork, ClientV2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.b64 import b64encode
from josepy.jwk import JWKRSA

from store.errors import SlipwayError
from store.secret import Secret

ANSWER_SECONDS = 20
"""How long one request to the authority may take."""

ORDER_SECONDS = 60.0
"""How long an order may take in all; Let's Encrypt needs some ten seconds."""

WAITING_SECONDS = 120.0
"""How long an order waits for those before it; they are made one at a time, since authorities limit their rate."""

ACCOUNT_KEY_BITS = 2048
"""RSA, which every authority takes for accounts; RFC 8555 section 6.2 asks for ES256, and not all heed it."""

_USER_AGENT = "slipway"

_ADVICE = {
    "rateLimited": "wait as long as it says; certificates that are there stay in use",
    "rejectedIdentifier": "ask for another host name",
    "caa": "allow the authority in the CAA record of the domain",
    "connection": "let the host name's DNS lead to this server, and port 80 be open to the world",
    "dns": "let the host name's DNS lead to this server",
    "unauthorized": "let the host name's DNS lead to this server and to no other",
}
"""What to do about an error of the authority, by its type (RFC 8555 section 6.7)."""


class AcmeError(SlipwayError):
    """The authority issued no certificate. Whatever certificate there was is still used."""


def new_account_key() -> Secret:
    """Return a new account key, PEM."""
    return _pem(rsa.generate_private_key(65537, ACCOUNT_KEY_BITS))


class Acme:
    """One account at one authority. It may be shared by threads.

    `directory` is the authority's URL (RFC 8555 section 7.1.1), whose terms of service are agreed to; `email` is who it
    may write to; `ca_file` names the certificates that its own server is trusted by, None for the usual ones.
    """

    def __init__(self, directory: str, account_key: Secret, *, email: str | None, ca_file: str | None) -> None:
        self._directory = directory
        self._email = email
        self._ca_file = ca_file
        self._key = JWKRSA.load(account_key.reveal().encode())
        self._lock = threading.Lock()

    @property
    def thumbprint(self) -> str:
        """What the proxy answers challenges with, beside the question itself (RFC 8555 section 8.1)."""
        return b64encode(self._key.thumbprint()).decode()

    def order(self, host: str) -> str:
        """Return a new private key, a certificate for `host` and its chain, PEM. Raises AcmeError."""
        if not self._lock.acquire(timeout=WAITING_SECONDS):
            raise AcmeError("other certificates are being asked for; try again in a few minutes")
        try:
            with self._asking(host):
                return self._order(host)
        finally:
            self._lock.release()

    def _order(self, host: str) -> str:
        client = self._client()
        key = _pem(ec.generate_private_key(ec.SECP256R1())).reveal()
        order = client.new_order(crypto_util.make_csr(key.encode(), [host]))
        for authorization in order.authorizations:
            if authorization.body.status == messages.STATUS_VALID:
                continue  # it was proven for an earlier order
            found = [each for each in authorization.body.challenges if isinstance(each.chall, challenges.HTTP01)]
            if not found:
                raise AcmeError(f"the certificate authority offers no challenge over HTTP for {host}")
            client.answer_challenge(found[0], found[0].chall.response(self._key))
        # The library compares with the machine's local time.
        issued = client.poll_and_finalize(order, datetime.now() + timedelta(seconds=ORDER_SECONDS))
        return key + str(issued.fullchain_pem)

    def _client(self) -> ClientV2:
        network = ClientNetwork(self._key, user_agent=_USER_AGENT, timeout=ANSWER_SECONDS)
        if self._ca_file is not None:
            # The library says bool, and hands it to requests, which takes a file as well.
            network.verify_ssl = cast(bool, self._ca_file)
        client = ClientV2(ClientV2.get_directory(self._directory, network), network)
        try:
            client.new_account(messages.NewRegistration.from_data(email=self._email, terms_of_service_agreed=True))
        except errors.ConflictError as known:
            network.account = messages.RegistrationResource(body=messages.Registration(), uri=known.location)
        return client

    @contextmanager
    def _asking(self, host: str) -> Iterator[None]:
        try:
            yield
        except errors.ValidationError as error:
            refused = [each.error for authzr in error.failed_authzrs for each in authzr.body.challenges if each.error]
            raise AcmeError(_told(host, refused[0])) from error
        except messages.Error as error:
            raise AcmeError(_told(host, error)) from error
        except errors.IssuanceError as error:
            raise AcmeError(_told(host, error.error)) from error
        except errors.TimeoutError as error:
            raise AcmeError(
                f"the certificate authority did not decide about {host} within {ORDER_SECONDS:.0f} s; try again later"
            ) from error
        except (OSError, errors.Error, josepy.errors.Error, ValueError, KeyError) as error:
            # OSError: whatever requests raises, and what it raises for a CA file that is not there.
            raise AcmeError(
                f"the certificate authority at {self._directory} does not answer as it should "
                f"({type(error).__name__}); try again later, or look at SLIPWAY_ACME_DIRECTORY and SLIPWAY_ACME_CA"
            ) from error


def _told(host: str, error: messages.Error) -> str:
    detail = " ".join("".join(char if char.isprintable() else " " for char in error.detail or "").split())[:300]
    advice = _ADVICE.get(error.code or "", "mend that and try again")
    reason = f"{error.code or 'error'}: {detail}" if detail else error.code or "no reason was given"
    return f"the certificate authority issued no certificate for {host} ({reason}); {advice}"


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Secret:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Secret(encoded.decode())
