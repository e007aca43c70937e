"""Endpoints on the proxy itself: TLS, TCP, what visitors cannot forge, and neighbours who cannot be starved."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import socketserver
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from releaser import certificate, haproxy
from releaser.haproxy import Proxy, RouteTakenError
from releaser.haproxy_daemon import ProxyFailedError
from releaser.route import OWN, Certificate, Destination, Endpoint, Route, Target
from store.errors import UsageError
from store.secret import Secret
from tests.releaser.authority import Authority
from tests.releaser.conftest import until
from tests.releaser.load import Load
from tests.releaser.stand_ins import container, get

CA = Authority()
NewProxy = Callable[..., Proxy]
FreePort = Callable[[], int]


def given(host: str, names: tuple[str, ...] = ()) -> Certificate:
    return Certificate.of(certificate.bundle(CA.bundle(host, *names), host))


class Visitor(http.client.HTTPSConnection):
    """A visitor over TLS who trusts the test's authority; `shown` is the certificate that they were shown."""

    def __init__(self, host: str, port: int, protocols: tuple[str, ...] = ("http/1.1",)) -> None:
        context = ssl.create_default_context(cadata=CA.root)
        context.set_alpn_protocols(list(protocols))
        super().__init__(host, port, context=context, timeout=20)
        self._tls = context

    def connect(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.sock = self._tls.wrap_socket(connection, server_hostname=self.host)

    @property
    def shown(self) -> bytes | None:
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.sock.getpeercert(binary_form=True)

    def ask(self, path: str = "/") -> str:
        self.request("GET", path)
        return self.getresponse().read().decode()


@pytest.fixture
def ports(free_port: FreePort) -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def tls_proxy(new_proxy: NewProxy, ports: tuple[int, int]) -> Proxy:
    return new_proxy(http_port=ports[0], https_host="127.0.0.1", https_port=ports[1])


def test_each_host_name_shows_its_own_certificate_and_none_shows_anothers(
    tls_proxy: Proxy, ports: tuple[int, int], tmp_path: Path
) -> None:
    plain, tls = ports
    with container("shop") as shop, container("blog") as blog:
        # Good for the neighbour's name as well, which must not get it.
        www = Endpoint(host="www.shop.example", certificate=given("www.shop.example", ("blog.example",)), redirect=True)
        tls_proxy.lead(7, Route(host="shop.apps.example", endpoints=(www,)), [shop])
        tls_proxy.lead(8, Route(host="blog.example"), [blog])
        assert Visitor("www.shop.example", tls).ask() == "shop"
        for host in ("blog.example", "shop.apps.example", "nobody.example"):
            with pytest.raises(ssl.SSLError):
                Visitor(host, tls).ask()
        mine = Endpoint(host="blog.example", certificate=given("blog.example"))
        tls_proxy.lead(8, Route(host="blog.apps.example", endpoints=(mine,)), [blog])
        assert Visitor("blog.example", tls).ask() == "blog"
        assert get(plain, host="blog.example").text == "blog", "without a redirect both ways are open"
        sent = requests.get(
            f"http://127.0.0.1:{plain}/a/b?c=d",
            headers={"Host": "www.shop.example"},
            allow_redirects=False,
            timeout=20,
        )
        assert (sent.status_code, sent.headers["Location"]) == (308, f"https://www.shop.example:{tls}/a/b?c=d")
        seen = Visitor("www.shop.example", tls).ask("/headers")
        assert "x-forwarded-proto: https" in seen
        assert f"x-forwarded-port: {tls}" in seen
        modern = Visitor("www.shop.example", tls, ("h2", "http/1.1"))
        modern.connect()
        assert isinstance(modern.sock, ssl.SSLSocket)
        assert modern.sock.selected_alpn_protocol() == "h2"
        modern.close()
        keys = sorted(tmp_path.glob("**/certificates/*"))
        assert len(keys) == 2
        assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
        assert all("PRIVATE" not in file.read_text() for file in tmp_path.glob("**/haproxy.cfg"))
        master = int(next(tmp_path.glob("**/haproxy.pid")).read_text().split()[0])
        os.kill(master, signal.SIGKILL)
        tls_proxy.start()
        assert Visitor("www.shop.example", tls).ask() == "shop", "it comes back with its certificates"
        tls_proxy.lead(8, Route(host="blog.apps.example"), [blog])
        assert len(list(tmp_path.glob("**/certificates/*"))) == 1, "a key that nobody needs is not kept"
        with pytest.raises(ssl.SSLError):
            Visitor("blog.example", tls).ask()


def test_a_certificate_is_replaced_without_a_dropped_connection(tls_proxy: Proxy, ports: tuple[int, int]) -> None:
    plain, tls = ports
    with container("shop") as shop:

        def lead() -> None:
            endpoint = Endpoint(host="www.shop.example", certificate=given("www.shop.example"))
            tls_proxy.lead(7, Route(host="127.0.0.1", endpoints=(endpoint,)), [shop])

        lead()
        kept = Visitor("www.shop.example", tls)
        assert kept.ask() == "shop"
        before = kept.shown
        with Load(plain) as load:
            for _ in range(4):
                lead()
        assert load.failures == []
        assert kept.ask() == "shop", "a kept connection is answered once more"
        fresh = Visitor("www.shop.example", tls)
        assert fresh.ask() == "shop"
        assert fresh.shown != before


def test_what_haproxy_would_refuse_is_refused_before_it_gets_it(tls_proxy: Proxy) -> None:
    tls_proxy.check_certificate(given("www.shop.example"))
    with pytest.raises(UsageError, match="HAProxy does not take this certificate"):
        tls_proxy.check_certificate(Certificate.of(Secret("-----BEGIN CERTIFICATE-----\nnonsense\n")))


@contextlib.contextmanager
def echo(prefix: bytes) -> Iterator[Target]:
    """A server of its own protocol: it says who it is, and echoes."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                self.request.sendall(prefix)
                while data := self.request.recv(4096):
                    self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Target("127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_a_tcp_connection_goes_on_through_a_switch(new_proxy: NewProxy, free_port: FreePort) -> None:
    proxy, tcp = new_proxy(), free_port()
    database = Destination("db", None, tcp=True)
    route = Route(port=free_port(), endpoints=(Endpoint(tcp_port=tcp, service="db"),))
    with container("web") as web, echo(b"old!") as old, echo(b"new!") as new:
        proxy.lead(7, route, {OWN: [web], database: [old]})
        with socket.create_connection(("127.0.0.1", tcp), timeout=20) as connection:
            assert connection.recv(4) == b"old!"
            proxy.lead(7, route, {OWN: [web], database: [new]})
            with socket.create_connection(("127.0.0.1", tcp), timeout=20) as second:
                assert second.recv(4) == b"new!"
            connection.sendall(b"\x00\xff\r\n")
            assert connection.recv(4) == b"\x00\xff\r\n"
            drained = threading.Thread(target=proxy.drain, args=(7,))
            drained.start()
            drained.join(0.3)
            assert drained.is_alive(), "the former container was let go with a connection to it"
        drained.join(10)
        assert not drained.is_alive()
        assert get(route.port or 0).text == "web"
        with pytest.raises(RouteTakenError, match=f"port {tcp}"):
            proxy.lead(8, Route(port=tcp), [web])
        with pytest.raises(RouteTakenError):
            proxy.lead(8, Route(port=free_port(), endpoints=(Endpoint(tcp_port=route.port),)), [web])


def test_a_host_name_leads_to_a_service_and_a_port_of_its_own(new_proxy: NewProxy, free_port: FreePort) -> None:
    port = free_port()
    proxy = new_proxy(http_port=port)
    endpoint = Endpoint(host="api.shop.example", service="api", container_port=9000)
    with container("web") as web, container("api") as api:
        route = Route(host="shop.example", endpoints=(endpoint,))
        proxy.lead(7, route, {OWN: [web], endpoint.destination: [api]})
        assert get(port, host="shop.example").text == "web"
        assert get(port, host="api.shop.example").text == "api"
        proxy.lead(7, route, {OWN: [web]})
        assert get(port, host="api.shop.example").status_code == 503


def test_visitors_cannot_forge_what_only_a_proxy_knows(new_proxy: NewProxy, free_port: FreePort) -> None:
    proxy, port = new_proxy(), free_port()
    forged = {
        "X-Forwarded-For": "10.6.6.6",
        "X_Forwarded_For": "10.6.6.6",
        "x-forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Client-Cert": "evil",
        "Forwarded": "for=10.6.6.6",
        "X-Real-IP": "10.6.6.6",
        "X-Request-ID": "a b",
        "Host": "shop.example",
    }
    with container("shop") as shop:
        proxy.lead(7, Route(port=port), [shop])
        answer = requests.get(f"http://127.0.0.1:{port}/headers", headers=forged, timeout=20).text
        fields = [line.partition(": ")[::2] for line in answer.splitlines() if line]
        seen = {name.lower(): value for name, value in fields}
        assert len(seen) == len(fields), "no field is there twice"
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert seen["x-forwarded-host"] == "shop.example"
        assert seen["x-forwarded-proto"] == "http"
        assert len(seen["x-request-id"]) == 36
        assert not any("evil" in value or "10.6.6.6" in value for value in seen.values())
        sane = requests.get(f"http://127.0.0.1:{port}/headers", headers={"X-Request-ID": "abc-123"}, timeout=20).text
        assert "x-request-id: abc-123" in sane.lower()


def test_a_visitor_whose_answer_breaks_off_is_told_that_it_was_the_app(
    new_proxy: NewProxy, free_port: FreePort
) -> None:
    class Silent(socketserver.BaseRequestHandler):
        """It takes the request and hangs up."""

        def handle(self) -> None:
            self.request.recv(4096)

    proxy, port = new_proxy(), free_port()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            proxy.lead(7, Route(port=port), [Target("127.0.0.1", server.server_address[1])])
            answer = get(port)
            assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
            assert "This app broke off its answer" in answer.text
        finally:
            server.shutdown()
            thread.join()


def test_an_app_whose_containers_are_busy_lets_its_own_visitors_wait_and_no_others(
    new_proxy: NewProxy, free_port: FreePort
) -> None:
    proxy, busy, other, held = new_proxy(server_connections=1), free_port(), free_port(), threading.Event()
    answers: list[str] = []
    with container("busy", held) as first, container("other") as second:
        proxy.lead(7, Route(port=busy), [first])
        proxy.lead(8, Route(port=other), [second])
        holding = threading.Thread(target=lambda: get(busy, "/held"))
        holding.start()
        until(lambda: proxy.requests_in_flight(7) == 1)
        waiting = threading.Thread(target=lambda: answers.append(get(busy).text))
        waiting.start()
        assert get(other).text == "other"
        waiting.join(0.3)
        assert waiting.is_alive()
        held.set()
        waiting.join(20)
        holding.join(20)
        assert answers == ["busy"]


def test_a_port_that_another_program_took_takes_no_other_app_down(new_proxy: NewProxy, free_port: FreePort) -> None:
    proxy, port, own, tcp = new_proxy(), free_port(), free_port(), free_port()
    endpoint = Endpoint(tcp_port=tcp)
    with container("shop") as shop, container("blog") as blog:
        proxy.lead(7, Route(port=port, endpoints=(endpoint,)), {OWN: [shop], endpoint.destination: [shop]})
        proxy.lead(8, Route(port=own), [blog])
        proxy.stop()
        until(lambda: haproxy.bindable("127.0.0.1", own) and haproxy.bindable("127.0.0.1", tcp))
        with socket.create_server(("127.0.0.1", own)), socket.create_server(("127.0.0.1", tcp)):
            proxy.start()
            assert get(port).text == "shop"
            assert proxy.routes()[7].route == Route(port=port), "so the next look at the records asks for the rest"
            assert set(proxy.routes()) == {7}
            with pytest.raises(haproxy.PortInUseError):
                proxy.lead(8, Route(port=own), [blog])
            assert get(port).text == "shop"
        proxy.lead(8, Route(port=own), [blog])
        assert get(own).text == "blog"


def test_a_configuration_that_haproxy_refuses_leaves_the_former_one_serving(
    new_proxy: NewProxy, free_port: FreePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, port = new_proxy(), free_port()
    with container("shop") as shop, socket.create_server(("127.0.0.1", 0)) as other:
        proxy.lead(7, Route(port=port), [shop])
        # Somebody takes the port in the moment between the look and the reload.
        with monkeypatch.context() as patch:
            patch.setattr(haproxy, "bindable", lambda _host, _port: True)
            with pytest.raises(ProxyFailedError, match="keeps the former one: a port that it needs was taken"):
                proxy.lead(8, Route(port=other.getsockname()[1]), [shop])
        assert set(proxy.routes()) == {7}
        assert get(port).text == "shop"
        with container("next") as following:
            proxy.lead(7, Route(port=port), [following])
            assert get(port).text == "next", "switches still work"
        fine = free_port()
        proxy.lead(8, Route(port=fine), [shop])
        assert get(fine).text == "shop", "and so do reloads"
