"""Certificates as people hand them in: what is wrong with one is a sentence that shows nothing of the key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from releaser.certificate import CertificateError, bundle, validity
from tests.releaser.authority import Authority, key_pem

CA = Authority()
LEAF, KEY = CA.sign("shop.example", "*.shop.example")


@pytest.mark.parametrize("host", ["shop.example", "www.shop.example"])
def test_in_whatever_order_it_comes_the_proxy_gets_key_leaf_and_chain(host: str) -> None:
    made = bundle(CA.intermediate + KEY + LEAF, host)
    assert made.reveal() == KEY + LEAF + CA.intermediate
    left = validity(made)[1] - datetime.now(UTC)
    assert timedelta(days=88) < left < timedelta(days=90)


def test_keys_in_openssls_own_form_are_taken() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf, _ = CA.sign("shop.example", key=key)
    traditional = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    assert bundle(leaf + traditional, "shop.example").reveal() == key_pem(key) + leaf


def _small() -> str:
    key = rsa.generate_private_key(65537, 1024)
    return CA.sign("shop.example", key=key)[0] + key_pem(key)


def _ed25519() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return CA.sign("shop.example", key=key)[0] + key_pem(key)


def _encrypted() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
    )
    return CA.sign("shop.example", key=key)[0] + sealed.decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no private key"),
        (LEAF, "there is no private key"),
        (KEY, "there is no certificate"),
        (KEY + LEAF.replace("M", "!", 3), "there is no certificate in this, or it is damaged"),
        (LEAF + KEY + CA.sign("shop.example")[1], "more than one private key"),
        (LEAF + CA.sign("shop.example")[1], "belongs to none of the certificates"),
        (LEAF + KEY.replace("M", "N", 2), "the private key is damaged"),
        (CA.bundle("blog.example", "*.example"), "is for blog.example, *.example, not for a.shop.example"),
        (CA.bundle(), "is for no host name"),
        (CA.bundle("a.shop.example", days=(-9, -2)), "expired on"),
        (CA.bundle("a.shop.example", days=(2, 9)), "is not valid before"),
        (LEAF + CA.root + KEY, "not in the chain"),
        (LEAF + KEY + Authority().intermediate, "not in the chain"),
        (_small(), "has 1024 bits"),
        (_ed25519(), "RSA and elliptic curve"),
        (_encrypted(), "is encrypted"),
        (LEAF + KEY + " " * (1 << 17), "is longer than"),
    ],
)
def test_what_is_off_is_said(text: str, message: str) -> None:
    with pytest.raises(CertificateError) as refused:
        bundle(text, "a.shop.example")
    assert message in str(refused.value)
    assert "MII" not in str(refused.value)
