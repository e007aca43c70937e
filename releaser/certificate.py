"""TLS certificates as people hand them in: checked before the proxy ever sees them.

The proxy reads all certificates at once, so that one that it refuses would keep every app's route from changing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from store.errors import UsageError
from store.secret import Secret

LONGEST_BUNDLE = 1 << 17
"""Characters. A chain of four with large keys has some 10,000."""

LEAST_RSA_BITS = 2048
"""What OpenSSL's default security level asks for (SSL_CTX_set_security_level(3), level 2)."""

WEAK_HASHES = (hashes.MD5, hashes.SHA1)

_KEY = re.compile(r"-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
"""PKCS #8 (RFC 7468 section 10), or one of OpenSSL's traditional forms."""

_ENCRYPTED = ("BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED")

_HOW = "send the certificate, its chain and its key together: cat fullchain.pem privkey.pem | … --certificate -"


class CertificateError(UsageError):
    """A certificate, or its key, cannot serve a host name."""


def bundle(text: str, host: str, now: datetime | None = None) -> Secret:
    """Return a certificate for `host` as the proxy takes it: PEM of the key, the certificate, and its chain in order.

    `text` is PEM (RFC 7468) in any order. Raises CertificateError, which never shows any of it, for a key that does not
    fit, a host name that is not covered (RFC 6125 section 6.4), a certificate that is not valid at `now` (by default
    the present), a chain with a gap or a stranger in it, and keys and signatures that are too weak.
    """
    if len(text) > LONGEST_BUNDLE:
        raise CertificateError(f"this is longer than {LONGEST_BUNDLE:,} characters; send one certificate and its chain")
    key = _key(text)
    try:
        given = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise CertificateError(f"there is no certificate in this, or it is damaged; {_HOW}") from error
    own = key.public_key()
    leaf = next((each for each in given if each.public_key() == own), None)
    if leaf is None:
        raise CertificateError("the private key belongs to none of the certificates; send the key that the request had")
    chain = _chain(leaf, given)
    _check_strength(leaf, chain)
    _check_time(leaf, now or datetime.now(UTC))
    names = covered(leaf)
    if not any(_matches(name, host) for name in names):
        raise CertificateError(
            f"the certificate is for {', '.join(names[:5]) or 'no host name'}, not for {host}; get one that names it"
        )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    return Secret(pem.decode())


def validity(made: Secret) -> tuple[datetime, datetime]:
    """Return from when to when a bundle's certificate is valid."""
    leaf = x509.load_pem_x509_certificates(made.reveal().encode())[0]
    return leaf.not_valid_before_utc, leaf.not_valid_after_utc


def covered(leaf: x509.Certificate) -> list[str]:
    """Return the host names that a certificate is for, `*.` at the beginning of some."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _matches(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]  # one label, and the whole of it
    return name == host


def _key(text: str) -> PrivateKeyTypes:
    if any(mark in text for mark in _ENCRYPTED):
        raise CertificateError("the private key is encrypted; decrypt it: openssl pkey -in key.pem -out plain.pem")
    found = [match[0] for match in _KEY.finditer(text)]
    if not found:
        raise CertificateError(f"there is no private key in this; {_HOW}")
    if len(found) > 1:
        raise CertificateError("there is more than one private key in this; send the one of this certificate")
    try:
        return serialization.load_pem_private_key(found[0].encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError("the private key is damaged, or of a kind that is not known; make a new one") from error


def _chain(leaf: x509.Certificate, given: list[x509.Certificate]) -> list[x509.Certificate]:
    """Return the certificates from the leaf to the last issuer that was given, each once."""
    left = {each for each in given if each != leaf}
    chain = [leaf]
    while issuer := next((each for each in left if _issued(each, chain[-1])), None):
        chain.append(issuer)
        left.remove(issuer)
    if left:
        stranger = next(iter(left)).subject.rfc4514_string()
        raise CertificateError(
            f"the certificate of {stranger[:200]!r} is not in the chain of {leaf.subject.rfc4514_string()[:200]!r}; "
            "leave it out, or send the one that is missing between them"
        )
    return chain


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_strength(leaf: x509.Certificate, chain: list[x509.Certificate]) -> None:
    own = leaf.public_key()
    if isinstance(own, rsa.RSAPublicKey) and own.key_size < LEAST_RSA_BITS:
        raise CertificateError(f"the key has {own.key_size} bits; make one with {LEAST_RSA_BITS} or more")
    if not isinstance(own, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise CertificateError("browsers take RSA and elliptic curve (P-256) keys only; make one of these")
    for each in chain:
        if each.issuer != each.subject and isinstance(each.signature_hash_algorithm, WEAK_HASHES):
            raise CertificateError(
                f"the certificate of {each.subject.rfc4514_string()[:200]!r} is signed with MD5 or SHA-1, "
                "which nobody accepts any more; get a new one"
            )


def _check_time(leaf: x509.Certificate, now: datetime) -> None:
    if now > leaf.not_valid_after_utc:
        raise CertificateError(f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}; get a new one")
    if now < leaf.not_valid_before_utc:
        raise CertificateError(
            f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; try again then"
        )
