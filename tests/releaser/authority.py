"""A certificate authority for tests: it signs whatever it is asked to, with an intermediate between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: CertificateIssuerPrivateKeyTypes) -> str:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded.decode()


class Authority:
    """A root and an intermediate; `root` and `intermediate` are PEM."""

    def __init__(self) -> None:
        root_key, self._key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = self._certificate(_name("root"), _name("root"), root_key, root_key, [], authority=True)
        between = self._certificate(_name("between"), _name("root"), self._key, root_key, [], authority=True)
        self.root, self.intermediate = pem(root), pem(between)

    @staticmethod
    def _certificate(
        subject: x509.Name,
        issuer: x509.Name,
        key: CertificateIssuerPrivateKeyTypes,
        issuer_key: CertificateIssuerPrivateKeyTypes,
        hosts: list[str],
        *,
        authority: bool = False,
        days: tuple[int, int] = (-1, 90),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def sign(
        self,
        *hosts: str,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        days: tuple[int, int] = (-1, 90),
    ) -> tuple[str, str]:
        """Return a certificate for hosts, without its chain, and its private key, both as PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        signed = self._certificate(
            _name(hosts[0] if hosts else "nobody"), _name("between"), key, self._key, list(hosts), days=days
        )
        return pem(signed), key_pem(key)

    def bundle(self, *hosts: str, days: tuple[int, int] = (-1, 90)) -> str:
        """Return a certificate with its chain and its key, as people concatenate them."""
        certificate, key = self.sign(*hosts, days=days)
        return certificate + self.intermediate + key
