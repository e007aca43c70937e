"""A registry with TLS, under a certificate authority of its own that the engine has in /etc/docker/certs.d."""

from __future__ import annotations

import ipaddress
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builder.registry_connection import CERTIFICATES
from demo.process import Process
from demo.registry import Registry

_CONFIGURATION = """\
version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: '{folder}/storage'}}}}
http:
  addr: '{address}:0'
  secret: of-a-test
  tls: {{certificate: '{folder}/server.pem', key: '{folder}/server.key'}}
auth:
  htpasswd: {{realm: private, path: '{folder}/htpasswd'}}
"""


class TlsRegistry(Registry):
    """As demo.registry.Registry, on an address where the engine insists on TLS."""

    def __init__(self, folder: Path, engine: str, address: str) -> None:
        super().__init__(folder, engine, username="tls-user")
        self._address = address

    def __enter__(self) -> TlsRegistry:
        self._folder.mkdir(parents=True)
        authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = _certificate("an authority of our own", None, authority_key, authority_key, None)
        server = _certificate(self._address, authority, key, authority_key, self._address)
        pem = serialization.Encoding.PEM
        self._authority = authority.public_bytes(pem)
        (self._folder / "server.pem").write_bytes(server.public_bytes(pem))
        (self._folder / "server.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        digest = bcrypt.hashpw(self.password.reveal().encode(), bcrypt.gensalt(4)).decode()
        (self._folder / "htpasswd").write_text(f"{self.username}:{digest}\n")
        configuration = self._folder / "registry.yml"
        configuration.write_text(_CONFIGURATION.format(folder=self._folder, address=self._address))
        program = shutil.which("docker-registry")
        assert program
        self._process = Process([program, "serve", configuration], log=self.log, environment={})
        port = self._process.wait_for(r"listening on [0-9.]+:(\d+), tls")[1]
        self.host = f"{self._address}:{port}"
        self.trusted = CERTIFICATES / self.host
        return self

    def __exit__(self, *_: object) -> None:
        self.distrust()
        super().__exit__(*_)

    def trust(self) -> None:
        """Make the authority known as an administrator does (Docker, "Verify repository client with certificates")."""
        self.trusted.mkdir(parents=True)
        (self.trusted / "ca.crt").write_bytes(self._authority)

    def distrust(self) -> None:
        """Take it away again."""
        shutil.rmtree(self.trusted, ignore_errors=True)


def _certificate(
    name: str,
    issuer: x509.Certificate | None,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    address: str | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if address:
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(signer, hashes.SHA256())
