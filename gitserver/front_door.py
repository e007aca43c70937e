"""Accepting connections: one front door is one process, of which several share a listening socket."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path

import structlog

from gitserver import farewell
from gitserver.connection import Connection
from gitserver.counters import Count, Counters, DoorCounters
from gitserver.host_key import load
from gitserver.limits import Limits
from gitserver.places import DoorPlaces, NoPlaceError, Place, TooManyStrangersError
from gitserver.transport import post_quantum_methods
from hooks.engine_room import EngineRoom

DRAIN_IDLE_SECONDS = 3.0
"""How long a connection may be without a session while draining: one that is just being opened gets to it."""

DRAIN_LOGIN_SECONDS = 15.0
"""How long one that was accepted before may take to log in while draining; an answer was promised to it."""

TIDY_SECONDS = 5.0
"""How long sessions that were cut off may take to tidy up; what they leave, the next push removes."""

MAX_TURNED_AWAY = 64
"""Connections without a place that are kept open for a moment, so that their clients read why."""

SWEEP_SECONDS = 1.0
"""How often connections are looked through for those that ended, or took too long to authenticate."""

log = structlog.get_logger()


class FrontDoor:
    """Serves SSH on `listener` until it is drained.

    `listener` is a listening TCP socket, which other processes may share. `host_key` is a file that
    `host_key.make_or_load` has made. Draining waits up to `drain_seconds` for sessions under way; deploys that are
    still watched then go on without their watchers. `places` are this process's of those that all front doors share.
    `counters` are this process's too. Raises HostKeyError and NoPostQuantumError.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        engine_room: EngineRoom,
        host_key: Path,
        limits: Limits,
        places: DoorPlaces,
        counters: DoorCounters | None = None,
        drain_seconds: float = 60.0,
    ) -> None:
        if limits.connection.post_quantum:
            # Nobody could connect; better that it does not come up at all.
            post_quantum_methods()
        self._listener = listener
        self._limits = limits
        self._places = places
        self._counters = counters or Counters().of(0)
        self._engine_room = engine_room
        self._host_key = load(host_key)
        self._drain_seconds = drain_seconds
        self._draining = False
        self._swept_at = time.monotonic()
        self._connections: list[Connection] = []
        self._turned_away: deque[socket.socket] = deque(maxlen=MAX_TURNED_AWAY)
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
            self._counters.beat()
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
            place = self._take_place(address[0])
        except NoPlaceError as error:
            self._counters.add(error.counted)
            log.info("front_door.turned_away", peer=address[0], reason=str(error))
            self._turn_away(sock, str(error))
            return
        try:
            connection = Connection(
                sock, address[0], self._engine_room, self._host_key, self._limits, place, self._counters
            )
            connection.start()
        except (OSError, RuntimeError) as error:
            # The client has left already, or no thread can be started: this connection's end, not the front door's.
            log.warning("front_door.connection_lost", error=str(error))
            place.leave()
            sock.close()
            return
        self._counters.add(Count.CONNECTIONS)
        self._connections.append(connection)

    def _take_place(self, address: str) -> Place:
        """Take a place for a connection from `address`. Raises NoPlaceError.

        Where all places of strangers are taken, one gives way: of the address that has most of them, this one counted,
        the one who has been at it longest. Who logs in needs a part of a second; who sits there to keep others out does
        not get to.
        """
        try:
            return self._places.take(address)
        except TooManyStrangersError:
            strangers = [c for c in self._connections if not c.authenticated and not c.closing]
            if not strangers:
                raise
            by_address = Counter([address, *(c.peer for c in strangers)])
            max(strangers, key=lambda stranger: by_address[stranger.peer]).close("another client logs in")
            self._counters.add(Count.REFUSED_STRANGERS)
            return self._places.take_anyway(address)

    def _turn_away(self, sock: socket.socket, reason: str) -> None:
        """Say why and hang up: an identification line and a disconnect message, which every client understands.

        A socket that is closed with the client's own line unread would take our words back, so it stays open until the
        next sweep, if there is room.
        """
        sock.setblocking(False)
        with suppress(OSError):
            sock.send(farewell.before_keys(reason))
            sock.shutdown(socket.SHUT_WR)
        if len(self._turned_away) == MAX_TURNED_AWAY:
            self._turned_away.popleft().close()
        self._turned_away.append(sock)

    def _sweep(self) -> None:
        now = time.monotonic()
        self._connections = [connection for connection in self._connections if not connection.ended]
        for connection in self._connections:
            connection.close_if_overdue(now)
        if now - self._swept_at > SWEEP_SECONDS:
            self._swept_at = now
            self._counters.beat()
            self._engine_room.close_idle()
            for connection in self._connections:
                connection.tally()
            while self._turned_away:
                self._turned_away.popleft().close()

    def _end_sessions(self) -> None:
        deadline = time.monotonic() + self._drain_seconds
        log.info("front_door.draining", connections=len(self._connections))
        while self._connections and time.monotonic() < deadline:
            for connection in self._connections:
                patience = DRAIN_IDLE_SECONDS if connection.authenticated else DRAIN_LOGIN_SECONDS
                if connection.idle_since is not None and time.monotonic() - connection.idle_since > patience:
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
