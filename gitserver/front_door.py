"""Accepting connections: one front door is one process, of which several share a listening socket."""

from __future__ import annotations

import os
import selectors
import socket
import time
from pathlib import Path

import structlog

from gitserver.connection import Connection
from gitserver.host_key import load
from hooks.engine_room import EngineRoom

LOGIN_GRACE_SECONDS = 60.0
"""How long a client may take to authenticate (sshd_config(5), LoginGraceTime; OpenSSH allows 120)."""

DRAIN_IDLE_SECONDS = 3.0
"""How long a connection may be without a session while draining: one that is just being opened gets to it."""

TIDY_SECONDS = 5.0
"""How long sessions that were cut off may take to tidy up; what they leave, the next push removes."""

SWEEP_SECONDS = 1.0
"""How often connections are looked through for those that ended, or took too long to authenticate."""

log = structlog.get_logger()


class FrontDoor:
    """Serves SSH on `listener` until it is drained.

    `listener` is a listening TCP socket, which other processes may share. `host_key` is a file that
    `host_key.make_or_load` has made. Draining waits up to `drain_seconds` for sessions under way; deploys that are
    still watched then go on without their watchers. Raises HostKeyError.
    """

    def __init__(
        self, listener: socket.socket, *, engine_room: EngineRoom, host_key: Path, drain_seconds: float = 60.0
    ) -> None:
        self._listener = listener
        self._engine_room = engine_room
        self._host_key = load(host_key)
        self._drain_seconds = drain_seconds
        self._draining = False
        self._connections: list[Connection] = []
        # An event descriptor and not a lock, since a signal handler writes to it.
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def drain(self) -> None:
        """Stop accepting, let sessions end, and make `run` return. Safe in a signal handler, and to be called twice."""
        self._draining = True
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Accept connections until `drain` is called, and return when they are over."""
        # The other processes that share the socket may take a connection first; accept must not wait then.
        self._listener.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            log.info("front_door.listening", address=self._listener.getsockname())
            while not self._draining:
                for key, _ in selector.select(SWEEP_SECONDS):
                    if key.fileobj is self._listener:
                        self._accept()
                self._sweep()
        self._listener.close()
        self._end_sessions()

    def _accept(self) -> None:
        try:
            sock, address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors, most likely: a connection that ends frees one, so a pause is better than giving up.
            log.error("front_door.cannot_accept", error=error.strerror)
            time.sleep(SWEEP_SECONDS)
            return
        try:
            connection = Connection(sock, address[0], self._engine_room, self._host_key)
            connection.start()
        except (OSError, RuntimeError) as error:
            # The client has left already, or no thread can be started: this connection's end, not the front door's.
            log.warning("front_door.connection_lost", error=str(error))
            sock.close()
            return
        self._connections.append(connection)

    def _sweep(self) -> None:
        now = time.monotonic()
        self._connections = [connection for connection in self._connections if not connection.ended]
        for connection in self._connections:
            if not connection.authenticated and now - connection.accepted_at > LOGIN_GRACE_SECONDS:
                connection.close("login grace time is over")

    def _end_sessions(self) -> None:
        deadline = time.monotonic() + self._drain_seconds
        log.info("front_door.draining", connections=len(self._connections))
        while self._connections and time.monotonic() < deadline:
            for connection in self._connections:
                if connection.idle_since is not None and time.monotonic() - connection.idle_since > DRAIN_IDLE_SECONDS:
                    connection.close("draining")
            # Sessions end in their own time, which nothing announces; a twentieth of a second is soon enough.
            time.sleep(0.05)
            self._sweep()
        for connection in self._connections:
            connection.close("draining took too long")
        # Sessions that were cut off still tidy up, their quarantines above all.
        deadline = time.monotonic() + TIDY_SECONDS
        while self._connections and time.monotonic() < deadline:
            time.sleep(0.05)
            self._sweep()
        log.info("front_door.drained")
