"""HTTP that another thread can end at any moment.

A request to an engine lasts as long as a build, and one to a registry as long as the registry likes. Neither `requests`
nor the sockets' own time-outs can end a request from outside, so its connections are remembered and closed.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import requests


class InterruptibleSession(requests.Session):
    """A session of `requests` whose requests end, with an error, once `interrupt` has been called."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._connections: list[Any] = []
        self._interrupted = threading.Event()
        super().__init__(*arguments, **options)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request, as `requests.Session` does."""
        adapter: Any = self.get_adapter(request.url or "")
        how = {name: options.get(name) for name in ("verify", "proxies", "cert")}
        self._remember_connections(adapter.get_connection_with_tls_context(request, **how))
        return super().send(request, **options)

    def interrupt(self) -> None:
        """Close every connection under the feet of whoever is reading or writing, and let no new one be made."""
        self._interrupted.set()
        for connection in list(self._connections):
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _remember_connections(self, pool: Any) -> None:
        make = pool._new_conn
        if not hasattr(make, "__self__"):
            return  # done before: what stands there now is not the pool's own method any more

        def remembered() -> Any:
            connection = make()
            connect = connection.connect

            def connect_unless_interrupted() -> None:
                connect()
                if self._interrupted.is_set():
                    connection.close()
                    raise ConnectionAbortedError("interrupted")

            connection.connect = connect_unless_interrupted
            self._connections.append(connection)
            return connection

        pool._new_conn = remembered
