"""The proxy itself: switching under load, being killed, being found again."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from releaser.haproxy import PortInUseError, Proxy, bindable
from releaser.haproxy_process import PID_FILE, ProxyMissingError
from releaser.route import Route, Target
from tests.releaser.conftest import until
from tests.releaser.load import Load
from tests.releaser.stand_ins import container, get

SWITCHES = 24

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
"""A WebSocket's nonce; the proxy checks that the answer fits it (RFC 6455 section 4.2.2)."""


def pid(proxy_folder: Path) -> int:
    return int((proxy_folder / PID_FILE).read_text().split()[0])


def lives(process: int) -> bool:
    try:  # what has ended and was not yet waited for has no words any more
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def test_no_request_fails_while_containers_and_apps_come_and_go(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int]
) -> None:
    proxy, port = new_proxy(), free_port()
    with ExitStack() as stack:
        targets = [stack.enter_context(container(str(number))) for number in range(3)]
        proxy.lead(7, Route(port=port), targets[:1])
        with Load(port) as load:
            for number in range(1, SWITCHES + 1):
                target = targets[number % 3]
                proxy.lead(7, Route(port=port), [target])
                assert get(port).text == str(number % 3), "a new connection reached a former container"
                proxy.drain(7)
                if number % 4 == 0:  # the master replaces its worker
                    proxy.lead(100 + number, Route(port=free_port()), [target])
        assert load.failures == []
        assert set(load.answers) == {"0", "1", "2"}


def test_a_connection_kept_over_a_reload_and_a_switch_is_answered(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int]
) -> None:
    proxy, port = new_proxy(), free_port()
    with container("new") as new, requests.Session() as session:
        with container("old") as old:
            proxy.lead(7, Route(port=port), [old])
            assert session.get(f"http://127.0.0.1:{port}", timeout=10).text == "old"
            proxy.lead(8, Route(port=free_port()), [old])  # another worker serves now; the former has our connection
            proxy.lead(7, Route(port=port), [new])
            drained = threading.Thread(target=proxy.drain, args=(7,))
            drained.start()
            drained.join(0.3)
            assert drained.is_alive(), "the former container was let go while a kept connection still led to it"
            assert session.get(f"http://127.0.0.1:{port}", timeout=10).text == "old"
            drained.join(10)
            assert not drained.is_alive()
        assert session.get(f"http://127.0.0.1:{port}", timeout=10).text == "new"


@pytest.mark.parametrize("reload_between", [False, True])
def test_a_request_under_way_is_finished_before_its_container_is_let_go(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int], reload_between: bool
) -> None:
    proxy, port, held = new_proxy(), free_port(), threading.Event()
    answers: list[str] = []
    with container("old", held) as old, container("new") as new:
        proxy.lead(7, Route(port=port), [old])
        visitor = threading.Thread(target=lambda: answers.append(get(port, "/held").text))
        visitor.start()
        until(lambda: proxy.requests_in_flight(7) == 1)
        if reload_between:
            proxy.lead(8, Route(port=free_port()), [new])
        proxy.lead(7, Route(port=port), [new])
        assert get(port).text == "new"
        drained = threading.Thread(target=proxy.drain, args=(7,))
        drained.start()
        drained.join(0.3)
        assert drained.is_alive(), "it was let go with a request under way"
        held.set()
        drained.join(10)
        assert not drained.is_alive()
        visitor.join()
    assert answers == ["old"]


def test_draining_has_an_end(new_proxy: Callable[..., Proxy], free_port: Callable[[], int]) -> None:
    proxy, port, held = new_proxy(), free_port(), threading.Event()
    with container("old", held) as old, container("new") as new:
        proxy.lead(7, Route(port=port), [old])
        visitor = threading.Thread(target=lambda: get(port, "/held"))
        visitor.start()
        until(lambda: proxy.requests_in_flight(7) == 1)
        proxy.lead(7, Route(port=port), [new])
        proxy.drain(7, seconds=0.2)
        assert proxy.routes()[7].targets == [new]
        assert not proxy.routes()[7].draining
        held.set()
        visitor.join()


def test_apps_are_told_apart_by_host_name(new_proxy: Callable[..., Proxy], free_port: Callable[[], int]) -> None:
    port = free_port()
    proxy = new_proxy(http_port=port)
    with container("shop") as shop, container("blog") as blog:
        proxy.lead(7, Route(host="shop.apps.example"), [shop])
        proxy.lead(8, Route(host="blog.apps.example"), [blog])
        assert get(port, host="shop.apps.example").text == "shop"
        assert get(port, host=f"BLOG.apps.example:{port}").text == "blog"
        assert get(port, host="apps.example").status_code == 503
        assert get(port, host="app-7").status_code == 503
        proxy.forget(8)
        assert get(port, host="blog.apps.example").status_code == 503
        assert get(port, host="shop.apps.example").text == "shop"


def test_killed_it_comes_back_with_its_routes(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int], tmp_path: Path
) -> None:
    proxy, port = new_proxy(), free_port()
    folder = tmp_path / ("deep" * 30) / "proxy"
    with container("first") as first, container("second") as second:
        proxy.lead(7, Route(port=port), [first])
        proxy.lead(7, Route(port=port), [second])
        os.kill(pid(folder), signal.SIGKILL)
        Proxy(folder).start()
        assert get(port).text == "second"
        os.kill(pid(folder), signal.SIGKILL)
        proxy.lead(7, Route(port=port), [first])  # nobody noticed that it is gone
        assert get(port).text == "first"


def test_one_that_lost_its_pid_file_is_replaced(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int], tmp_path: Path
) -> None:
    proxy, port = new_proxy(), free_port()
    folder = tmp_path / ("deep" * 30) / "proxy"
    with container("shop") as shop:
        proxy.lead(7, Route(port=port), [shop])
        before = pid(folder)
        (folder / PID_FILE).unlink()
        proxy.start()
        assert get(port).text == "shop"
        assert pid(folder) != before
        until(lambda: not lives(before))


def test_a_server_that_comes_back_finds_its_proxy_running(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int], tmp_path: Path
) -> None:
    proxy, port = new_proxy(), free_port()
    folder = tmp_path / ("deep" * 30) / "proxy"
    with container("shop") as shop:
        proxy.lead(7, Route(port=port), [shop])
        before = pid(folder)
        again = Proxy(folder)
        again.start()
        assert pid(folder) == before
        assert get(port).text == "shop"
        again.stop()
        until(lambda: bindable("127.0.0.1", port))


def test_a_pid_file_that_names_somebody_elses_process_harms_nobody(
    new_proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    first, second = new_proxy("first"), new_proxy("second")
    folder = tmp_path / ("deep" * 30)
    own, victim = pid(folder / "first"), pid(folder / "second")
    (folder / "first" / PID_FILE).write_text(f"{victim}\n")
    first.stop()
    assert lives(victim)
    (folder / "first" / PID_FILE).write_text(f"{os.getpid()}\n")
    first.stop()
    (folder / "first" / PID_FILE).write_text(f"{own}\n")
    second.stop()
    assert not lives(victim)


def test_a_port_in_use_is_one_sentence_and_changes_nothing(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int]
) -> None:
    proxy, port = new_proxy(), free_port()
    with container("shop") as shop, socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert not bindable("127.0.0.1", taken)
        proxy.lead(7, Route(port=port), [shop])
        with pytest.raises(PortInUseError, match=f"another program listens on 127.0.0.1:{taken}"):
            proxy.lead(8, Route(port=taken), [shop])
        assert get(port).text == "shop"
        assert set(proxy.routes()) == {7}


def test_two_instances_do_not_share_a_port_unnoticed(
    new_proxy: Callable[..., Proxy], free_port: Callable[[], int]
) -> None:
    first, second, port = new_proxy("first"), new_proxy("second"), free_port()
    with container("first") as ours, container("second") as theirs:
        first.lead(7, Route(port=port), [ours])
        with pytest.raises(PortInUseError):
            second.lead(7, Route(port=port), [theirs])
        assert {get(port).text for _ in range(20)} == {"first"}


def test_without_haproxy_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ProxyMissingError, match="install the package 'haproxy'"):
        Proxy(tmp_path, program="no-such-program-here").start()


def test_a_websocket_goes_on_through_a_switch(new_proxy: Callable[..., Proxy], free_port: Callable[[], int]) -> None:
    proxy, port = new_proxy(), free_port()

    class Echo(socketserver.BaseRequestHandler):
        """The server's side of an upgraded connection (RFC 6455 section 1.3), but for the frames: it echoes bytes."""

        def handle(self) -> None:
            request = b""
            while b"\r\n\r\n" not in request:
                request += self.request.recv(4096) or b"\r\n\r\n"
            accept = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
            self.request.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
            )
            while data := self.request.recv(4096):
                self.request.sendall(data)

    with (
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as former,
        container("next") as successor,
        socket.socket() as visitor,
    ):
        thread = threading.Thread(target=former.serve_forever, args=(0.02,))
        thread.start()
        try:
            proxy.lead(7, Route(port=port), [Target("127.0.0.1", former.server_address[1])])
            visitor.connect(("127.0.0.1", port))
            visitor.settimeout(20)
            visitor.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % KEY.encode()
            )
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += visitor.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101")
            proxy.lead(7, Route(port=port), [successor])
            assert requests.get(f"http://127.0.0.1:{port}", timeout=20).text == "next"
            assert proxy.requests_in_flight(7) == 1
            for word in (b"still", b"here"):
                visitor.sendall(word)
                assert visitor.recv(4096) == word
            visitor.close()
            proxy.drain(7)
            assert proxy.requests_in_flight(7) == 0
        finally:
            former.shutdown()
            thread.join()


def test_a_visitor_of_no_app_is_told_so(new_proxy: Callable[..., Proxy], free_port: Callable[[], int]) -> None:
    port = free_port()
    proxy = new_proxy(http_port=port)
    proxy.lead(7, Route(host="shop.example"), [])

    def asked(host: str) -> tuple[int, str]:
        answer = requests.get(f"http://127.0.0.1:{port}", headers={"Host": host}, timeout=20)
        return answer.status_code, answer.text

    status, text = asked("blog.example")
    assert status == 503
    assert "There is no app at this address" in text
    status, text = asked("shop.example")
    assert status == 503
    assert "This app has no running release" in text
