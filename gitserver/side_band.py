"""Two streams in one: what a push's client shows to its user, and what it reads itself.

gitprotocol-pack(5), "Packfile Data", describes side-band-64k; git-receive-pack uses it in the same way. Without it the
client still reads the report, and its user sees the rest as SSH's standard error.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from dulwich.protocol import SIDE_BAND_CHANNEL_DATA, SIDE_BAND_CHANNEL_PROGRESS, pkt_line

from gitserver.streams import ClientGoneError, ClientStreams

MAX_PAYLOAD = 65_515
"""Bytes of a side-band-64k packet beside its four digits of length and its band: 65,520 in all."""

KEEPALIVE_SECONDS = 5.0
"""Longest silence towards the client, as with Git's own `receive.keepAlive`."""


class SideBand:
    """The way back to the client of one push; with `enabled`, a silent push is kept alive while the block runs.

    Methods may be called by several threads, and raise ClientGoneError.
    """

    def __init__(self, streams: ClientStreams, *, enabled: bool) -> None:
        self._streams = streams
        self._enabled = enabled
        self._lock = threading.Lock()
        self._spoken = threading.Event()
        self._over = False
        self._keeper = threading.Thread(target=self._keep_alive, name="push-keepalive", daemon=True)

    def __enter__(self) -> Self:
        if self._enabled:
            self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._spoken.set()
        if self._enabled:
            self._keeper.join()

    def progress(self, data: bytes) -> None:
        """Show `data` to the user at once."""
        if self._enabled:
            self._send(SIDE_BAND_CHANNEL_PROGRESS, data)
        else:
            self._streams.write_error(data)

    def report(self, data: bytes) -> None:
        """Send the client what it reads itself, and end the stream."""
        if self._enabled:
            self._send(SIDE_BAND_CHANNEL_DATA, data)
            with self._lock:
                self._over = True
                self._streams.write(pkt_line(None))
        else:
            self._streams.write(data)

    def _send(self, band: int, data: bytes) -> None:
        with self._lock:
            for start in range(0, len(data), MAX_PAYLOAD):
                self._streams.write(pkt_line(bytes([band]) + data[start : start + MAX_PAYLOAD]))
        self._spoken.set()

    def _keep_alive(self) -> None:
        try:
            while not self._over:
                if self._spoken.wait(KEEPALIVE_SECONDS):
                    self._spoken.clear()
                    continue
                with self._lock:
                    if not self._over:
                        self._streams.keep_alive(pkt_line(bytes([SIDE_BAND_CHANNEL_DATA])))
        except ClientGoneError:
            return
