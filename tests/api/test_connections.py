"""Whoever holds connections, or takes their time, does not keep the others out."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import gc
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.api import connections
from console.api.connections import COLLECT_EVERY, MOST_PER_ADDRESS, Connection, Listener, subscriber
from demo.server import Server
from tests.api.test_transport import certificate


def listening(most: int, most_per_address: int | None = None) -> Listener:
    return Listener(socket.create_server(("127.0.0.1", 0)), most, most_per_address)


def connect(listener: Listener, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout=20, source_address=(address, 0))


def test_a_subscriber_is_an_address_or_a_network_of_them() -> None:
    assert subscriber("192.0.2.1") == "192.0.2.1"
    assert subscriber("2001:db8::1") == subscriber("2001:db8::ffff:1") != subscriber("2001:db8:0:1::1")
    assert subscriber("fe80::1%eth0") == "fe80::/64"
    assert subscriber("::ffff:192.0.2.1") == "192.0.2.1"
    assert subscriber("192.0.2.1:4711") == "192.0.2.1:4711"


def test_one_address_does_not_take_all_connections() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(listening(3, 2))
        theirs = [stack.enter_context(connect(listener)) for _ in range(3)]
        taken = [stack.enter_context(listener.accept()[0]) for _ in range(2)]
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        assert theirs[2].recv(1) == b""  # closed, and the others are not
        other = stack.enter_context(connect(listener, "127.0.0.2"))
        stack.enter_context(listener.accept()[0])
        stack.enter_context(connect(listener, "127.0.0.3"))
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        # One that is closed makes room for the next, once.
        taken[0].close()
        taken[0].close()
        stack.enter_context(connect(listener))
        stack.enter_context(listener.accept()[0])
        stack.enter_context(connect(listener, "127.0.0.2"))
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        other.close()


def test_a_request_that_takes_too_long_is_cut_and_a_quick_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(status_code=204)

    application = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])

    async def story() -> None:
        config = uvicorn.Config(application, http=Connection, lifespan="off", log_config=None)
        config.load()
        state = uvicorn.Server(config).server_state
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def cut(sent: bytes) -> bool:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            try:
                return await reader.read(100) == b""
            except ConnectionResetError:
                return True
            finally:
                writer.close()

        async with asyncio.timeout(20):
            begun = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"
            assert all(await asyncio.gather(cut(b""), cut(b"GET / HT"), cut(begun)))
            # Between requests it is idle, for longer than one may take, and then goes on.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(3):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
                await asyncio.sleep(0.35)  # the time itself is what this is about
            writer.write(b"GET / HT")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readuntil(b"\r\n\r\n")
            writer.close()
        server.close()

    asyncio.run(story())


def test_whoever_does_not_take_the_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to a connection is held in memory until the client takes it."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)

    async def answer(_request: Request) -> Response:
        return Response(b"x" * (32 << 20))

    async def story() -> None:
        config = uvicorn.Config(Starlette(routes=[Route("/", answer)]), lifespan="off", log_config=None)
        config.load()
        state = uvicorn.Server(config).server_state
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname(), timeout=20) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(20):
                while state.total_requests == 0 or state.connections:
                    await asyncio.sleep(0.01)
        server.close()

    asyncio.run(story())


def test_connections_over_tls_that_came_to_nothing_are_not_kept_in_memory(tmp_path: Path) -> None:
    """asyncio leaves each, with 300 KB of buffers, in a cycle."""

    async def story() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(tmp_path))
        listener = Listener(socket.create_server(("127.0.0.1", 0)), tls=True)
        address = listener.getsockname()
        closed = asyncio.Semaphore(0)
        count_down = listener.closed

        def count(whose: str) -> None:
            count_down(whose)
            closed.release()

        listener.closed = count  # type: ignore[method-assign]  # the moment when it is over
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=listener, ssl=context)
        async with asyncio.timeout(20):
            for _ in range(3 * COLLECT_EVERY):
                _, writer = await asyncio.open_connection(*address)
                writer.close()
                await closed.acquire()
        server.close()
        assert sum(isinstance(each, asyncio.sslproto.SSLProtocol) for each in gc.get_objects()) <= COLLECT_EVERY

    gc.disable()  # what it would happen to do by itself
    try:
        asyncio.run(story())
    finally:
        gc.enable()


def test_silent_connections_leave_room_for_others(new_server: Callable[..., Server]) -> None:
    server = new_server(SLIPWAY_FRONT_DOORS="1")
    host, port = server.api.split(":")
    with ExitStack() as stack:
        silent = [
            stack.enter_context(
                socket.create_connection((host, int(port)), timeout=20, source_address=("127.0.0.2", 0))
            )
            for _ in range(MOST_PER_ADDRESS + 50)
        ]
        for refused in silent[MOST_PER_ADDRESS:]:
            assert refused.recv(1) == b""
        assert requests.get(f"http://{server.api}/", timeout=20).status_code == 200
