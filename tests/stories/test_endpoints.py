"""Endpoints as the owner of an app sees them: certificates, TCP ports, and the page before the first deploy."""

from __future__ import annotations

import json
import socket
import sqlite3
import ssl
import urllib.error
from collections.abc import Callable
from contextlib import closing
from urllib.request import Request, urlopen

import pytest

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.releaser.authority import Authority
from tests.releaser.conftest import until
from tests.stories.web_app import create, files, read
from tests.world.working_copy import Repo

CA = Authority()
DOMAIN = "apps.example.test"

ECHO = """\
import socketserver

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"echo " + line)

socketserver.ThreadingTCPServer(("", 9000), Echo).serve_forever()
"""


class TlsServer:
    """A server with a domain, TLS, and a person who has an app on it; `port` and `tls` are where the proxy listens."""

    def __init__(self, server: Server, port: int, tls: int) -> None:
        self.server, self.port, self.tls = server, port, tls

    def status(self, host: str) -> tuple[int, str]:
        request = Request(f"http://127.0.0.1:{self.port}/", headers={"Host": host})
        try:
            with urlopen(request, timeout=20) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def over_tls(self, host: str) -> dict[str, object]:
        """Return what the app answers at a host name over TLS, whose certificate has to be right."""
        context = ssl.create_default_context(cadata=CA.root)
        with (
            socket.create_connection(("127.0.0.1", self.tls), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while received := connection.recv(65536):
                answer += received
        return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


@pytest.fixture(scope="module")
def world(new_server: Callable[..., Server]) -> TlsServer:
    def free() -> int:
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            return int(probe.getsockname()[1])

    port, tls = free(), free()
    server = new_server(SLIPWAY_DOMAIN=DOMAIN, SLIPWAY_HTTP=f"127.0.0.1:{port}", SLIPWAY_HTTPS=f"127.0.0.1:{tls}")
    return TlsServer(server, port, tls)


@pytest.fixture
def erin(world: TlsServer, person: Callable[[str], Person]) -> Person:
    erin = person("erin")
    world.server.add_user(erin)
    return erin


def test_an_app_with_a_certificate_a_tcp_port_and_a_page_before_its_first_deploy(
    world: TlsServer, erin: Person, registry: Registry, private_base: str
) -> None:
    create(erin, "pottery", registry.username, registry.password.reveal())
    status, page = world.status(f"pottery.{DOMAIN}")
    assert status == 503
    assert "This app has no running release" in page
    bundle = CA.bundle("www.pottery.example")
    words = ("endpoints:create", "--app", "pottery", "www.pottery.example", "--certificate", "-", "--redirect")
    for text, why in ((CA.bundle("other.example"), "not for www.pottery.example"), ("", "no private key")):
        refused = erin.ssh(*words, stdin=text)
        assert refused.returncode == 2
        assert why in refused.stderr
    by_file = erin.ssh(*words[:4], "--certificate", "/etc/passwd")
    assert "files on the server are not read" in by_file.stderr
    made = erin.ssh(*words, stdin=bundle)
    assert (made.returncode, made.stdout) == (0, f"https://www.pottery.example:{world.tls}\n"), made.stderr
    wildcard = CA.bundle(f"*.{DOMAIN}")
    own = erin.ssh(
        "endpoints:create",
        "--app",
        "pottery",
        f"pottery.{DOMAIN}",
        "--certificate",
        "-",
        stdin=wildcard,
    )
    assert own.returncode == 0, own.stderr
    for port, why in (("22", "endpoints may open the ports"), ("30001", "")):
        opened = erin.ssh(
            "endpoints:create", "--app", "pottery", "--tcp-port", port, "--service", "echo", "--port", "9000"
        )
        assert why in opened.stderr
    again = erin.ssh("endpoints:create", "--app", "pottery", "--tcp-port", "30001")
    assert "port 30001 leads to an app already" in again.stderr

    pottery = Repo(erin, "pottery")
    procfile = "web: python3 -u server.py\necho: python3 -u echo.py\n"
    pottery.commit(files(private_base, "one") | {"Procfile": procfile, "echo.py": ECHO})
    pushed = pottery.push()
    assert pushed.returncode == 0, pushed.stderr
    assert "echo: healthy, takes connections" in pushed.stderr
    assert world.over_tls("www.pottery.example")["version"] == "one"
    assert world.over_tls(f"pottery.{DOMAIN}")["version"] == "one"
    with socket.create_connection(("127.0.0.1", 30001), timeout=20) as connection:
        connection.sendall(b"hello\n")
        assert connection.recv(100) == b"echo hello\n"
    rows = {row["url"]: row for row in read(erin, "endpoints", "--app", "pottery")}
    assert rows["tcp://127.0.0.1:30001"]["service"] == "echo"
    shown = rows[f"https://www.pottery.example:{world.tls}"]
    assert (shown["certificate"], shown["redirect"], shown["expires_at"][:3]) == ("given", True, "202")

    # The private key is nowhere in the clear but in the proxy's own folder.
    lines = bundle.rpartition("-----BEGIN PRIVATE KEY-----")[2].split()
    with closing(sqlite3.connect(world.server.data / "slipway.db")) as records:
        dump = "\n".join(records.iterdump())
    assert lines[0] not in dump
    assert lines[0].encode().hex().upper() not in dump.upper()

    gone = erin.ssh("endpoints:create", "--app", "pottery", "api.pottery.example", "--service", "nonsense")
    assert "has no service 'nonsense'; it has web, echo" in gone.stderr
    changed = erin.ssh("endpoints:modify", "--app", "pottery", "www.pottery.example", "--no-redirect")
    assert changed.returncode == 0, changed.stderr
    until(lambda: world.status("www.pottery.example")[0] == 200, seconds=60)
    assert erin.ssh("endpoints:remove", "--app", "pottery", "30001").returncode == 0
