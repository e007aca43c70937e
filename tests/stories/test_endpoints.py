"""Endpoints as the owner of an app sees them: certificates, TCP ports, and the page before the first deploy."""

from __future__ import annotations

import json
import socket
import sqlite3
import ssl
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.request import Request, urlopen

import pytest

from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from tests.releaser.authority import Authority
from tests.releaser.conftest import until
from tests.stories.web_app import answer, create, files, read, show
from tests.world.pebble import BLOCKED, Pebble, pebble
from tests.world.working_copy import Repo

NewApp = Callable[[Person], Repo]

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

    def __init__(self, server: Server, port: int, tls: int, authority: Pebble) -> None:
        self.server, self.port, self.tls, self.authority = server, port, tls, authority

    def status(self, host: str) -> tuple[int, str]:
        request = Request(f"http://127.0.0.1:{self.port}/", headers={"Host": host})
        try:
            with urlopen(request, timeout=20) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def over_tls(self, host: str, root: str = CA.root) -> dict[str, object]:
        """Return what the app answers at a host name over TLS, whose certificate has to be right."""
        context = ssl.create_default_context(cadata=root)
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
def world(
    engine: str, new_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsServer]:
    def free() -> int:
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            return int(probe.getsockname()[1])

    port, tls = free(), free()
    with pebble(tmp_path_factory.mktemp("pebble"), port) as authority:
        server = new_server(
            SLIPWAY_DOMAIN=DOMAIN,
            SLIPWAY_HTTP=f"127.0.0.1:{port}",
            SLIPWAY_HTTPS=f"127.0.0.1:{tls}",
            SLIPWAY_ACME_DIRECTORY=authority.directory,
            SLIPWAY_ACME_CA=str(authority.ca_file),
        )
        yield TlsServer(server, port, tls, authority)


@pytest.fixture(scope="module")
def erin(world: TlsServer, tmp_path_factory: pytest.TempPathFactory) -> Person:
    erin = Person(tmp_path_factory.mktemp("erin"), "erin")
    world.server.add_user(erin)
    return erin


def make(person: Person, app: str, *words: str, stdin: str = "") -> str:
    """Give an app an endpoint and return the address that is told."""
    made = person.ssh("endpoints:create", "--app", app, *words, stdin=stdin)
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def bundle() -> str:
    return CA.bundle("www.pottery.example")


@pytest.fixture(scope="module")
def pottery(world: TlsServer, erin: Person, registry: Registry, private_base: str, bundle: str) -> str:
    """An app with a certificate for a further name, one for its own, and a TCP port; then deployed."""
    create(erin, "pottery", registry.username, registry.password.reveal())
    url = make(erin, "pottery", "www.pottery.example", "--certificate", "-", "--redirect", stdin=bundle)
    assert url == f"https://www.pottery.example:{world.tls}\n"
    make(erin, "pottery", f"pottery.{DOMAIN}", "--certificate", "-", stdin=CA.bundle(f"*.{DOMAIN}"))
    make(erin, "pottery", "--tcp-port", "30001", "--service", "echo", "--port", "9000")
    pottery = Repo(erin, "pottery")
    procfile = "web: python3 -u server.py\necho: python3 -u echo.py\n"
    pottery.commit(files(private_base, "one") | {"Procfile": procfile, "echo.py": ECHO})
    pushed = pottery.push()
    assert pushed.returncode == 0, pushed.stderr
    assert "echo: healthy, takes connections" in pushed.stderr
    return "pottery"


def test_what_cannot_be_is_refused_and_a_page_is_there_before_the_first_deploy(world: TlsServer, erin: Person) -> None:
    create(erin, "kiln")
    status, page = world.status(f"kiln.{DOMAIN}")
    assert status == 503
    assert "This app has no running release" in page
    for words, stdin, why in (
        (["www.kiln.example", "--certificate", "-"], CA.bundle("other.example"), "not for www.kiln.example"),
        (["www.kiln.example", "--certificate", "-"], "", "no private key"),
        (["www.kiln.example", "--certificate", "/etc/passwd"], "", "files on the server are not read"),
        (["www.kiln.example", "--redirect"], "", "--redirect needs a certificate"),
        (["www.kiln.example", "--tcp-port", "30005"], "", "name either a host name, or a port"),
        (["--tcp-port", "22"], "", "endpoints may open the ports 30000 to 32767 here"),
        ([f"pottery.{DOMAIN}"], "", "belong to the apps that are called so"),
    ):
        refused = erin.ssh("endpoints:create", "--app", "kiln", *words, stdin=stdin)
        assert refused.returncode == 2, refused.stdout
        assert why in refused.stderr
    assert len(read(erin, "endpoints", "--app", "kiln")) == 1


def test_certificates_and_tcp_ports_lead_to_their_services(
    world: TlsServer, erin: Person, pottery: str, bundle: str
) -> None:
    assert world.over_tls("www.pottery.example")["version"] == "one"
    assert world.over_tls(f"pottery.{DOMAIN}")["version"] == "one"
    with socket.create_connection(("127.0.0.1", 30001), timeout=20) as connection:
        connection.sendall(b"hello\n")
        assert connection.recv(100) == b"echo hello\n"
    rows = {row["url"]: row for row in read(erin, "endpoints", "--app", pottery)}
    assert rows[f"tcp://{world.server.host}:30001"]["service"] == "echo"
    shown = rows[f"https://www.pottery.example:{world.tls}"]
    assert (shown["certificate"], shown["redirect"], shown["expires_at"][:2]) == ("given", True, "20")
    taken = erin.ssh("endpoints:create", "--app", pottery, "--tcp-port", "30001")
    assert "port 30001 leads to an app already" in taken.stderr
    unknown = erin.ssh("endpoints:create", "--app", pottery, "api.pottery.example", "--service", "nonsense")
    assert "has no service 'nonsense'; it has web, echo" in unknown.stderr
    # The private key is nowhere in the clear but in the proxy's own folder.
    line = bundle.rpartition("-----BEGIN PRIVATE KEY-----")[2].split()[0]
    with closing(sqlite3.connect(world.server.data / "slipway.db")) as records:
        dump = "\n".join(records.iterdump())
    assert line not in dump
    assert line.encode().hex().upper() not in dump.upper()


def test_an_endpoint_is_changed_and_removed(world: TlsServer, erin: Person, pottery: str) -> None:
    changed = erin.ssh("endpoints:modify", "--app", pottery, "www.pottery.example", "--no-redirect")
    assert changed.returncode == 0, changed.stderr
    until(lambda: world.status("www.pottery.example")[0] == 200, seconds=60)
    make(erin, pottery, "shards.pottery.example", "--service", "echo", "--port", "8080")
    assert erin.ssh("endpoints:remove", "--app", pottery, "shards.pottery.example").returncode == 0
    assert erin.ssh("endpoints:remove", "--app", pottery, "shards.pottery.example").returncode == 2


def test_a_managed_certificate_is_there_at_once_or_not_at_all(world: TlsServer, erin: Person, pottery: str) -> None:
    url = make(erin, pottery, "clay.example", "--managed", "--redirect")
    assert url == f"https://clay.example:{world.tls}\n"
    root = world.authority.root
    assert world.over_tls("clay.example", root)["version"] == "one"
    renewed = erin.ssh("endpoints:renew", "--app", pottery, "clay.example")
    assert (renewed.returncode, renewed.stdout) == (0, "The certificate of clay.example was renewed.\n"), renewed.stderr
    assert world.over_tls("clay.example", root)["version"] == "one"
    blocked = erin.ssh("endpoints:create", "--app", pottery, BLOCKED, "--managed")
    assert blocked.returncode == 1
    assert f"issued no certificate for {BLOCKED} (rejectedIdentifier: " in blocked.stderr
    assert not any(BLOCKED in row["url"] for row in read(erin, "endpoints", "--app", pottery)), "nothing is half done"
    given = erin.ssh("endpoints:renew", "--app", pottery, "www.pottery.example")
    assert "is not managed here" in given.stderr


def test_where_apps_have_ports_a_page_is_there_and_host_names_are_not(alice: Person, new_app: NewApp) -> None:
    app = new_app(alice).app
    with pytest.raises(urllib.error.HTTPError, match="503") as page:
        urlopen(show(alice, app)["url"], timeout=20)
    assert "This app has no running release" in page.value.read().decode()
    refused = alice.ssh("endpoints:create", "--app", app, "www.shop.example")
    assert refused.returncode == 2
    assert "SLIPWAY_DOMAIN" in refused.stderr


def test_without_a_proxy_a_container_has_the_port(
    new_server: Callable[..., Server], person: Callable[[str], Person], registry: Registry, private_base: str
) -> None:
    server, frank = new_server(SLIPWAY_ROUTER="none"), person("frank")
    server.add_user(frank)
    create(frank, "bare", registry.username, registry.password.reveal())
    bare = Repo(frank, "bare")
    for version in ("one", "two"):
        bare.commit(files(private_base, version))
        assert bare.push().returncode == 0
        assert answer(show(frank, "bare")["url"])["version"] == version
    assert not list((server.data / "proxy").glob("*")), "nobody asked for HAProxy"
    refused = frank.ssh("endpoints:create", "--app", "bare", "--tcp-port", "30001")
    assert refused.returncode == 2
    assert "SLIPWAY_ROUTER=none" in refused.stderr
