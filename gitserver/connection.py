"""One client's connection: which requests it may make at all (RFC 4254), and the sessions that it opens."""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time

import paramiko
import structlog
from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)

from gitserver.counters import Count, DoorCounters
from gitserver.limits import Limits
from gitserver.places import Place
from gitserver.session import Session
from gitserver.transport import Transport
from hooks.engine_room import EngineRoom, User
from releaser.terminal import Size, Terminal

MAX_SESSIONS = 10
"""Sessions that one connection may hold at once, as with OpenSSH (sshd_config(5), MaxSessions)."""

DISMISSAL_SECONDS = 2.0
"""How long a client that is told to go may take to read why."""

_GIT_PROTOCOL = re.compile(rb"[a-z0-9=:._-]{1,128}")
"""What may be in GIT_PROTOCOL (gitprotocol-v2(5)): keys and values between colons."""

logger = structlog.get_logger()


class Connection(paramiko.ServerInterface):
    """One client's connection. It refuses whatever is not named here: forwarding above all."""

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        engine_room: EngineRoom,
        host_key: paramiko.PKey,
        limits: Limits,
        place: Place,
        counters: DoorCounters,
    ) -> None:
        self.peer = peer
        """The client's address."""
        self._limits = limits
        self._place = place
        self._counters = counters
        self._log = logger.bind(connection=secrets.token_hex(4), peer=peer)
        self._engine_room = engine_room
        self._sessions: dict[int, Session] = {}
        self._lock = threading.Lock()
        self.accepted_at = time.monotonic()
        self.idle_since: float | None = self.accepted_at
        """Since when no session has been open, on the monotonic clock, or None while one is."""
        self.ended = False
        """Whether the connection is over and none of its sessions runs any more."""
        self._over = False
        self._dismissed_at: float | None = None
        self._closing = False
        given = limits.connection
        self.transport = Transport(
            sock, host_key, self._identify, self, given.attempts, post_quantum=given.post_quantum
        )

    def start(self) -> None:
        """Begin to speak SSH, on the transport's thread."""
        # With an event of its own, start_server does not wait for the handshake.
        self.transport.start_server(event=threading.Event(), server=self)
        self._log.info("connection.opened")

    def close(self, reason: str) -> None:
        """Hang up; sessions under way see their client leave."""
        if not self._closing and self.transport.is_active():
            self._log.info("connection.closing", reason=reason)
        self._closing = True
        self.transport.close()

    def close_if_overdue(self, now: float) -> None:
        """End the connection of a client that takes too long at `now`, on the monotonic clock, for what is its turn."""
        if self._dismissed_at is not None:
            if now - self._dismissed_at > DISMISSAL_SECONDS:
                self.close("it does not read that it is to go")
        elif reason := self._overdue(now):
            self.dismiss(reason)

    def tally(self) -> None:
        """Count the bytes that have gone through the sessions since the last time."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.tally()

    def _overdue(self, now: float) -> str | None:
        """Return what the client has taken too long for."""
        limits = self._limits.connection
        with self._lock:
            idle_since = self.idle_since
            sessions = list(self._sessions.values())
        if not self.authenticated:
            return "you took too long to log in" if now - self.accepted_at > limits.login_seconds else None
        if idle_since is not None and now - idle_since > limits.idle_seconds:
            return "nothing happened on this connection for too long"
        if any(session.overdue(now) for session in sessions):
            return "the server waited too long for your side to go on"
        return None

    def dismiss(self, reason: str) -> None:
        """Tell the client why, which OpenSSH shows, and hang up."""
        self._dismissed_at = time.monotonic()
        # Said now: a client that understands hangs up before we do.
        self._log.info("connection.closing", reason=reason)
        self._closing = True
        # A client that does not read makes sending wait, so it is no work for the thread that looks after all of them.
        threading.Thread(target=self._say_goodbye, args=(reason,), daemon=True).start()

    def _say_goodbye(self, reason: str) -> None:
        try:
            self.transport.say_goodbye(reason)
        finally:
            self.close(reason)

    @property
    def closing(self) -> bool:
        """Whether the connection has been hung up on already."""
        return self._closing

    @property
    def authenticated(self) -> bool:
        """Whether somebody has authenticated."""
        return self.transport.user is not None

    # What the transport tells (transport.ConnectionEvents)

    def authenticated_as(self, user: User) -> None:
        """Name the user in whatever is logged from here on."""
        with self._lock:
            if self.idle_since is not None:
                self.idle_since = time.monotonic()  # logging in was no idleness
        self._place.settle()
        self._counters.add(Count.LOGINS)
        self._log = self._log.bind(user=user.name)
        self._log.info("connection.authenticated")

    def channel_opened(self, channel: paramiko.Channel) -> None:
        """Make the session of a channel, for the user who has authenticated by now."""
        user = self.transport.user
        if user is None:
            raise paramiko.SSHException("a session before authentication")
        session = Session(
            channel,
            self.peer,
            user,
            self._engine_room,
            self._limits,
            self._log,
            self._counters,
            self._session_ended,
        )
        with self._lock:
            self._sessions[channel.chanid] = session
            self.idle_since = None

    def channel_asked(self, channel: paramiko.Channel) -> None:
        """Start the session if it has been told what to do; before this, the client has no answer to its request."""
        if session := self._sessions.get(channel.chanid):
            session.start()

    def channel_closed(self, channel: paramiko.Channel) -> None:
        """Tell the session that its client has left."""
        if session := self._sessions.get(channel.chanid):
            session.client_left()

    def connection_ended(self, error: BaseException | None) -> None:
        """Tell every session that its client has left."""
        self._place.leave()
        with self._lock:
            self._over = True
            self.ended = not self._sessions
            sessions = list(self._sessions.values())
        for session in sessions:
            session.client_left()
        # An orderly end is EOF. Of anything else paramiko may quote what a stranger sent, so not all of it.
        reason = None if error is None or isinstance(error, EOFError) else f"{type(error).__name__}: {error}"[:200]
        self._log.info("connection.closed", reason=reason)

    def _session_ended(self, session: Session) -> None:
        with self._lock:
            self._sessions.pop(session.number, None)
            self.idle_since = None if self._sessions else time.monotonic()
            self.ended = self._over and not self._sessions

    def _identify(self, name: str, key: str) -> User | None:
        user = self._engine_room.authenticate(key, name)
        if user is None:
            self._counters.add(Count.UNKNOWN_KEYS)
            self._log.info("authentication.unknown_key", kind=key.partition(" ")[0])
        return user

    # What paramiko asks (paramiko.ServerInterface)

    def get_allowed_auths(self, username: str) -> str:
        """Only public keys."""
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Sessions, a few at once; no forwarding of any kind."""
        if kind != "session":
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return OPEN_FAILED_RESOURCE_SHORTAGE if len(self._sessions) >= MAX_SESSIONS else OPEN_SUCCEEDED

    def check_channel_pty_request(
        self,
        channel: paramiko.Channel,
        term: bytes,
        width: int,
        height: int,
        pixelwidth: int,
        pixelheight: int,
        modes: bytes,
    ) -> bool:
        """Agree, since OpenSSH complains otherwise; only a program in a container gets a pseudo-terminal."""
        session = self._sessions.get(channel.chanid)
        terminal = Terminal.of(term.decode("ascii", "replace"), width, height)
        return session is not None and session.terminal_at_client(terminal)

    def check_channel_window_change_request(
        self, channel: paramiko.Channel, width: int, height: int, pixelwidth: int, pixelheight: int
    ) -> bool:
        """Pass it on to a program that has a pseudo-terminal."""
        session = self._sessions.get(channel.chanid)
        return session is not None and session.terminal_resized(Size.of(width, height))

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        """Take Git's own variable and no other from the client's environment.

        Aptible's client sends its token to the portal. It has been asked for over HTTP already, so it is not looked at.
        """
        session = self._sessions.get(channel.chanid)
        if session is not None and session.in_portal and name == b"ACCESS_TOKEN":
            return True
        if session is None or name != b"GIT_PROTOCOL" or not _GIT_PROTOCOL.fullmatch(value):
            return False
        session.git_protocol = value.decode()
        return True

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        """Greet, in place of a shell."""
        session = self._sessions.get(channel.chanid)
        return session is not None and session.ask(None)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Run a command."""
        session = self._sessions.get(channel.chanid)
        return session is not None and session.ask(command)
