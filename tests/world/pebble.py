"""A real ACME server: Pebble, Let's Encrypt's own for tests (Debian's package `pebble`), with a DNS to go with it.

Every host name leads to 127.0.0.1 there.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from demo.process import Process
from tests.releaser.authority import Authority

BLOCKED = "blocked.example"
"""A domain for which the authority issues nothing."""


@dataclass(frozen=True)
class Pebble:
    """A running authority: its directory, the file that its own server is trusted by, and its management interface."""

    directory: str
    ca_file: Path
    management: str

    @property
    def root(self) -> str:
        """The root of the certificates that it issues, PEM."""
        return requests.get(f"{self.management}/roots/0", verify=str(self.ca_file), timeout=20).text


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def pebble(folder: Path, http_port: int) -> Iterator[Pebble]:
    """Run an authority that asks its challenges at `http_port`."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    certificate, key = authority.sign("localhost")
    (folder / "cert.pem").write_text(certificate + authority.intermediate)
    (folder / "key.pem").write_text(key)
    (folder / "ca.pem").write_text(authority.root)
    listening, management, dns, dns_management = (_free_port() for _ in range(4))
    (folder / "pebble.json").write_text(
        json.dumps(
            {
                "pebble": {
                    "listenAddress": f"127.0.0.1:{listening}",
                    "managementListenAddress": f"127.0.0.1:{management}",
                    "certificate": str(folder / "cert.pem"),
                    "privateKey": str(folder / "key.pem"),
                    "httpPort": http_port,
                    "tlsPort": _free_port(),
                    "domainBlocklist": [BLOCKED],
                }
            }
        )
    )
    names = ["pebble-challtestsrv", "-management", f"127.0.0.1:{dns_management}", "-dns01", f"127.0.0.1:{dns}"]
    names += ["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]
    words: list[str | Path] = ["pebble", "-config", folder / "pebble.json", "-strict", "-dnsserver", f"127.0.0.1:{dns}"]
    environment = {"PATH": os.defpath, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    environment["PEBBLE_AUTHZREUSE"] = "0"  # each order is asked its challenges anew
    with ExitStack() as stack:
        resolver = stack.enter_context(Process(names, log=folder / "dns.log", environment=environment))
        resolver.wait_for("Starting management server")
        server = stack.enter_context(Process(words, log=folder / "pebble.log", environment=environment))
        server.wait_for(r"ACME directory available at")
        yield Pebble(f"https://localhost:{listening}/dir", folder / "ca.pem", f"https://localhost:{management}")
