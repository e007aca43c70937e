"""Passwords do not travel in the open: TLS, this machine alone, or a declared proxy."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from console.api.transport import Transport
from demo.person import Person
from demo.process import ProgramError
from demo.server import Server
from store.errors import UsageError
from tests.api.conftest import PASSWORD
from tests.api.public_client import PublicClient


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    moment = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - datetime.timedelta(hours=1))
        .not_valid_after(moment + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, key_pem


def test_over_tls_every_link_is_https(new_server: Callable[..., Server], tmp_path: Path) -> None:
    pem, key = certificate(tmp_path)
    server = new_server(SLIPWAY_API_CERTIFICATE=str(pem), SLIPWAY_API_CERTIFICATE_KEY=str(key), SLIPWAY_FRONT_DOORS="1")
    api = PublicClient(f"https://{server.api}", tmp_path)
    api.verify = str(pem)
    assert api.log_in("admin", PASSWORD).status_code == 401
    links = api.read("GET", "/")["_links"]
    assert all(link["href"].startswith(f"https://{server.api}/") for link in links.values())


def test_plain_http_is_for_this_machine_or_behind_a_proxy() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        Transport(host, None, None, None).check()
    Transport("0.0.0.0", None, None, "10.0.0.0/8").check()
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with pytest.raises(UsageError, match="unencrypted"):
            Transport(host, None, None, None).check()


def test_a_server_that_would_send_passwords_in_the_open_does_not_start(
    tmp_path: Path, person: Callable[[str], Person]
) -> None:
    server = Server(tmp_path / "data", "unix:///nowhere/docker.sock")  # it does not come to the engine
    server.init(person("admin"))
    with pytest.raises(ProgramError, match="SLIPWAY_API_CERTIFICATE"):
        server.start("--api", "0.0.0.0:0")


def test_a_certificate_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    pem, key = certificate(tmp_path)
    Transport("0.0.0.0", pem, key, None).check()
    with pytest.raises(UsageError, match="belong together"):
        Transport("127.0.0.1", pem, None, None).check()
    with pytest.raises(UsageError, match="No such file"):
        Transport("127.0.0.1", tmp_path / "missing.pem", key, None).check()
    with pytest.raises(UsageError, match="PEM format"):
        Transport("127.0.0.1", key, pem, None).check()


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    pem, key = certificate(tmp_path)

    async def story() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, key)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]

        async def shown() -> str:
            return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))

        renewing = asyncio.create_task(Transport("0.0.0.0", pem, key, None).renew(context, 0.01))
        assert await shown() == pem.read_text()
        other = tmp_path / "other"
        other.mkdir()
        new_pem, new_key = certificate(other)
        new_pem.replace(pem)
        new_key.replace(key)
        async with asyncio.timeout(20):
            while await shown() != pem.read_text():
                await asyncio.sleep(0.01)
        renewing.cancel()
        server.close()

    asyncio.run(story())


def test_only_a_declared_proxy_is_believed() -> None:
    assert Transport("127.0.0.1", None, None, None).options["proxy_headers"] is False
    declared = Transport("127.0.0.1", None, None, "127.0.0.1").options
    assert (declared["proxy_headers"], declared["forwarded_allow_ips"]) == (True, "127.0.0.1")
