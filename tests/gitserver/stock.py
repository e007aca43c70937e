"""Dulwich's own server of pushes, to show that a test which passes here could have failed."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dulwich.protocol import Protocol
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend, ReceivePackHandler

from tests.gitserver.wire import RawPush


class StockPush(RawPush):
    """One push to dulwich's ReceivePackHandler, without SSH between."""

    def __init__(self, path: Path) -> None:
        near, self._far = socket.socketpair()
        near.settimeout(60)
        self._near = near
        self.failure: Exception | None = None
        self.writes: list[bytes] = []
        """What the server wrote, call by call: over SSH, each would be a packet."""
        self._thread = threading.Thread(target=self._serve, args=(path,))
        self._thread.start()
        channel: Any = SimpleNamespace(
            recv=near.recv,
            settimeout=near.settimeout,
            sendall=near.sendall,
            shutdown_write=lambda: near.shutdown(socket.SHUT_WR),
            makefile=near.makefile,
            makefile_stderr=lambda mode: io.BytesIO(),
            recv_exit_status=lambda: int(self.failure is not None),
        )
        transport: Any = SimpleNamespace(close=self._close, sock=SimpleNamespace(close=self._close))
        self.channel, self._transport = channel, transport
        self._discover()

    @property
    def packets(self) -> int:
        """What SSH would make of the server's writes."""
        return len(self.writes)

    def _serve(self, path: Path) -> None:
        stream = self._far.makefile("rwb")

        def write(data: bytes) -> int | None:
            self.writes.append(bytes(data))
            self._far.sendall(data)
            return None

        try:
            with Repo(str(path)) as repo:
                served: dict[str, BackendRepo] = {"/": repo}
                ReceivePackHandler(DictBackend(served), ["/"], Protocol(stream.read, write)).handle()
        except Exception as error:
            # Whatever it dies of, the client sees the connection end.
            self.failure = error
        finally:
            stream.close()
            self._far.close()

    def _close(self) -> None:
        self._near.close()
        self._thread.join(60)
