"""A wire that is long: a relay on loopback that holds every byte back for a while.

The kernel's own way (netem, tc-netem(8)) needs root and a module that many kernels lack. What a relay cannot show is
TCP's own windows, since both of its ends are near; what it does show is what SSH's windows make of the delay.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from types import TracebackType

CHUNK_BYTES = 1 << 18
AHEAD_BYTES = 256 << 20
"""What may be on the wire at once: more than any window here."""


class Relay:
    """Passes one connection after another on to a port of this machine, each byte `seconds` late."""

    def __init__(self, port: int, *, seconds: float) -> None:
        self._port = port
        self._delay = seconds
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        """Begin, and return the relay's port."""
        threading.Thread(target=self._accept, daemon=True).start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            for source, target in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire: queue.Queue[tuple[float, bytes]] = queue.Queue(AHEAD_BYTES // CHUNK_BYTES)
                threading.Thread(target=self._take, args=(source, wire), daemon=True).start()
                threading.Thread(target=self._give, args=(target, wire), daemon=True).start()

    def _take(self, source: socket.socket, wire: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"."
        while data:
            try:
                data = source.recv(CHUNK_BYTES)
            except OSError:
                data = b""
            wire.put((time.monotonic() + self._delay, data))

    def _give(self, target: socket.socket, wire: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, data = wire.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return
