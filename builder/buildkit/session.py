"""A BuildKit session: a connection to the engine on which the engine is the client and this side answers.

The engine takes over the HTTP connection of `POST /session` and speaks HTTP/2 on it (`session/manager.go` of
github.com/moby/buildkit, "HandleHTTPRequest"). A stock gRPC server answers; since it only takes connections from
sockets that it listens on, a private Unix socket stands between the two for as long as it takes to connect.
"""

from __future__ import annotations

import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from builder.buildkit.messages_pb2 import GetSecretRequest, GetSecretResponse, HealthCheckRequest, HealthCheckResponse
from builder.engine import IsolatedClient
from store.errors import SlipwayError
from store.secret import Secret

THREADS = 8
"""Calls answered at the same time. BuildKit makes one or two for files, and one for each step that wants a secret."""
PIECE = 256 << 10
"""Bytes copied at once between the engine's connection and the gRPC server."""
LONGEST_HEAD = 16 << 10
"""Bytes of the engine's answer to the request for a session."""
LARGEST_REQUEST = 64 << 10
"""Bytes of a message from the engine: it only sends names and numbers."""
SERVING = 1
"""`ServingStatus` of the gRPC health checking protocol."""

HEALTH = "/grpc.health.v1.Health/Check"
SECRETS = "/moby.buildkit.secrets.v1.Secrets/GetSecret"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Handlers = Mapping[str, Handler]
"""By method, such as `/grpc.health.v1.Health/Check`."""


class SessionError(SlipwayError):
    """The engine offers no BuildKit session."""


def health() -> Handler:
    """Answer that this side lives; BuildKit gives a silent session up."""

    def check(_request: HealthCheckRequest, _context: grpc.ServicerContext) -> HealthCheckResponse:
        return HealthCheckResponse(status=SERVING)

    return grpc.unary_unary_rpc_method_handler(
        check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
    )


def secret_store(known: Mapping[str, Secret]) -> Handler:
    """Hand out secrets by their ids, and nothing else."""

    def get(request: GetSecretRequest, context: grpc.ServicerContext) -> GetSecretResponse:
        secret = known.get(request.id)
        if secret is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"secret {request.id} not found")
            raise AssertionError  # abort raises
        return GetSecretResponse(data=secret.reveal().encode())

    return grpc.unary_unary_rpc_method_handler(get, GetSecretRequest.FromString, GetSecretResponse.SerializeToString)


@contextmanager
def attached(client: IsolatedClient, handlers: Handlers) -> Iterator[str]:
    """Attach a session that answers the methods of `handlers`, and yield its id for the build request.

    The session ends with the block, and with an interruption of the client. Raises SessionError.
    """
    identity = secrets.token_hex(16)
    with ExitStack() as stack:
        upstream = stack.enter_context(client.dial())
        _upgrade(upstream, identity, handlers)
        local = stack.enter_context(_server(handlers))
        threads = [
            threading.Thread(target=_copy, args=pair, name="buildkit-session", daemon=True)
            for pair in ((upstream, local), (local, upstream))
        ]
        for thread in threads:
            thread.start()

        def end() -> None:
            for end in (upstream, local):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()

        stack.callback(end)
        yield identity


def _upgrade(upstream: socket.socket, identity: str, methods: Handlers) -> None:
    lines = [
        "POST /session HTTP/1.1",
        "Host: docker",
        "Connection: Upgrade",
        "Upgrade: h2c",
        f"X-Docker-Expose-Session-Uuid: {identity}",
        "X-Docker-Expose-Session-Name: slipway",
        # Of its own for each build: BuildKit takes files of the same size and time for the same files, and in a commit
        # all times are the same.
        f"X-Docker-Expose-Session-Sharedkey: {identity}",
        *(f"X-Docker-Expose-Session-Grpc-Method: {method}" for method in methods),
    ]
    upstream.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    head = b""
    # Byte by byte: what follows the head is HTTP/2 already, and for somebody else to read.
    while not head.endswith(b"\r\n\r\n"):
        byte = upstream.recv(1)
        if not byte or len(head) > LONGEST_HEAD:
            raise SessionError("The Docker engine ended the BuildKit session before it began; try again.")
        head += byte
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise SessionError(
            "The Docker engine has no BuildKit; set SLIPWAY_BUILDER to classic, or use Docker Engine 23 or newer."
        )


@contextmanager
def _server(handlers: Handlers) -> Iterator[socket.socket]:
    """Run a gRPC server, and yield the only connection to it."""
    pool = ThreadPoolExecutor(THREADS, "buildkit-answers")
    options = [("grpc.max_receive_message_length", LARGEST_REQUEST), ("grpc.so_reuseport", 0)]
    server = grpc.server(pool, options=options)
    server.add_generic_rpc_handlers((_Methods(handlers),))
    try:
        connection = socket.socket(socket.AF_UNIX)
        with tempfile.TemporaryDirectory(prefix="slipway-session-") as folder:
            path = str(Path(folder, "s"))
            server.add_insecure_port(f"unix:{path}")
            server.start()
            connection.connect(path)
        with connection:
            yield connection
    finally:
        server.stop(None).wait()
        pool.shutdown(wait=False, cancel_futures=True)


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handlers.get(handler_call_details.method)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    with suppress(OSError):
        while size := source.recv_into(buffer):
            sink.sendall(view[:size])
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
