"""The certificates in the proxy's folder: a file each, called after its content, and the list that HAProxy reads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from releaser import haproxy_config
from releaser.haproxy_backends import Routing
from releaser.haproxy_config import CERTIFICATE_LIST, CERTIFICATES, Listening
from releaser.haproxy_daemon import Daemon
from releaser.haproxy_process import CONFIG_FILE
from releaser.route import Certificate, Endpoint, Route
from store.errors import UsageError


class CertificateFiles:
    """The certificates in one proxy's folder. The folder and all in it are readable by their owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, routings: Mapping[int, Routing]) -> None:
        """Have a file for each certificate whose private key is known here, and list those that have one."""
        (self._folder / CERTIFICATES).mkdir(mode=0o700, parents=True, exist_ok=True)
        for certificate in _certificates(routings):
            file = self._folder / haproxy_config.certificate_file(certificate.fingerprint)
            if certificate.bundle is not None and not file.exists():
                fresh = file.with_suffix(".new")
                fresh.touch(mode=0o600)
                fresh.write_text(certificate.bundle.reveal())
                fresh.replace(file)
        # One whose file somebody has removed must not keep the proxy from starting.
        lines = haproxy_config.certificate_list(routings).splitlines(keepends=True)
        there = [line for line in lines if (self._folder / line.split()[0]).exists()]
        (self._folder / CERTIFICATE_LIST).write_text("".join(there))

    def prune(self, routings: Mapping[int, Routing]) -> None:
        """Remove the private keys that no route needs any more."""
        needed = {f"{certificate.fingerprint}.pem" for certificate in _certificates(routings)}
        for file in (self._folder / CERTIFICATES).glob("*"):
            if file.name not in needed:
                file.unlink()

    def remove(self) -> None:
        """Remove them all."""
        (self._folder / CERTIFICATE_LIST).unlink(missing_ok=True)
        shutil.rmtree(self._folder / CERTIFICATES, ignore_errors=True)


def check(folder: Path, program: str, certificate: Certificate) -> None:
    """Raise UsageError for a certificate that HAProxy would not take: with it, no app's route could change.

    HAProxy reads it once, in a folder of its own within `folder`. Raises ProxyMissingError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    endpoint = Endpoint(host="b.invalid", certificate=certificate)
    routings = {1: Routing.new(1, Route(host="a.invalid", endpoints=(endpoint,)))}
    with tempfile.TemporaryDirectory(dir=folder, prefix="check-") as name:
        trial = Path(name)
        CertificateFiles(trial).write(routings)
        listening = Listening(https_host="127.0.0.1", https_port=1)  # which a check does not open
        (trial / CONFIG_FILE).write_text(haproxy_config.render(routings, listening))
        if complaint := Daemon(trial, program).complaint():
            raise UsageError(f"HAProxy does not take this certificate: {complaint.rpartition(': ')[2]}")


def _certificates(routings: Mapping[int, Routing]) -> list[Certificate]:
    return [
        endpoint.certificate
        for routing in routings.values()
        for endpoint in routing.route.endpoints
        if endpoint.certificate is not None
    ]
