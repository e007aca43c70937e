"""Asking the engine room on behalf of a client who may leave while an answer is under way."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gitserver.streams import ClientGoneError
from hooks.engine_room import EngineRoom
from store.errors import SlipwayError


class WatchedEngineRoom(EngineRoom):
    """An engine room as one session sees it: `leave()` ends every answer at once, from any thread.

    From then on each call raises ClientGoneError. What the engine room was asked to do, it does.
    """

    def __init__(self, engine_room: EngineRoom) -> None:
        super().__init__(engine_room._path)
        self._lock = threading.Lock()
        self._left = False
        self._answer: int | None = None

    def leave(self) -> None:
        """Stop listening."""
        with self._lock:
            self._left = True
            if self._answer is not None:
                # A thread that waits in recv() is not woken by closing the descriptor, but by shutting the socket down.
                with socket.socket(fileno=os.dup(self._answer)) as connection:
                    connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _request(self, *args: Any, **kwargs: Any) -> Iterator[http.client.HTTPResponse]:
        if self._left:
            raise ClientGoneError
        with super()._request(*args, **kwargs) as response:
            try:
                with self._lock:
                    if self._left:
                        raise ClientGoneError
                    self._answer = None if response.isclosed() else response.fileno()
                yield response
            except (OSError, http.client.HTTPException, SlipwayError):
                if self._left:
                    raise ClientGoneError from None
                raise
            finally:
                with self._lock:
                    self._answer = None
