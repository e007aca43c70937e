"""One SSH connection's encryption and channels (RFC 4253, RFC 4254): paramiko's Transport, narrowed.

It offers modern algorithms only, and tells its owner about the ends of channels that paramiko keeps to itself: a client
that closes a channel, and a connection that dies.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.kex_curve25519 import KexCurve25519

from gitserver import farewell
from gitserver.authentication import KEY_CLASSES, Identify, PublicKeyAuthentication
from gitserver.channel_input import WINDOW_BYTES, ChannelInput
from gitserver.packets import BoundedPacketizer, ChannelData
from hooks.engine_room import User
from store.errors import SlipwayError

# Paramiko's log speaks of packets; what matters of it reaches the log of the program as the end of a connection.
# Without a handler of its own, Python would print its warnings to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

NEAR_WINDOW_BYTES = 4 << 20
"""What a client may send ahead of a program that reads it: with more, a client nearby spends its time on buffers."""

FAR_WINDOW_BYTES = 64 << 20
"""The most that a client far away may send ahead; none of it is kept here, only what fits into the program's pipe."""

FAR_BYTES_PER_SECOND = 400 << 20
"""What a connection may carry: the window is this times the round trip, within the two above."""

OLD_LIBSSH2 = re.compile(r"SSH-2\.0-libssh2_1\.([0-9]|10)\.")
"""Clients that know only MACs over the plain text: libssh2 before 1.11, the one of libgit2 on Debian 12. A client names
itself before algorithms are named (RFC 4253, 4.2), and the name is part of what the host key signs (8), so nobody in
between can make another client into one of these."""

POLL_SECONDS = 5.0
"""How often an idle connection is looked after: new keys, keepalives. Closing it does not wait for that."""

KEEPALIVE_SECONDS = 30
"""How often a silent connection is probed, so that NATs keep it and a dead peer is noticed."""

DEAD_PEER_MILLISECONDS = 90_000
"""How long sent data may stay unacknowledged before the kernel gives the connection up (tcp(7), TCP_USER_TIMEOUT)."""

_Handler = Callable[[paramiko.Channel, paramiko.Message], None]
_STOCK: dict[int, _Handler] = vars(paramiko.Transport)["_channel_handler_table"]


class ConnectionEvents(Protocol):
    """Who hears of a transport's channels; every call comes on the transport's own thread and must be quick."""

    def authenticated_as(self, user: User) -> None:
        """Somebody has proved to have a key of this user's."""

    def channel_opened(self, channel: paramiko.Channel) -> None:
        """A client has opened a session channel."""

    def channel_asked(self, channel: paramiko.Channel) -> None:
        """A request on a channel has been answered; what it asked for may begin."""

    def channel_closed(self, channel: paramiko.Channel) -> None:
        """The client has closed a channel."""

    def connection_ended(self, error: BaseException | None) -> None:
        """The connection is over, with every channel of it."""


def _request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    _STOCK[MSG_CHANNEL_REQUEST](channel, message)
    transport = channel.get_transport()
    if isinstance(transport, Transport):
        transport.events.channel_asked(channel)


def _close(channel: paramiko.Channel, message: paramiko.Message) -> None:
    _STOCK[MSG_CHANNEL_CLOSE](channel, message)
    transport = channel.get_transport()
    if isinstance(transport, Transport):
        # The program that reads the input learns that nobody is there before it finds the input's end.
        transport.events.channel_closed(channel)
        transport.forget(channel)


def _data(channel: paramiko.Channel, message: paramiko.Message) -> None:
    transport = channel.get_transport()
    given = transport.inputs.get(channel.chanid) if isinstance(transport, Transport) else None
    if given is not None and isinstance(message, ChannelData):
        given.feed(message.data())


def _extended_data(channel: paramiko.Channel, message: paramiko.Message) -> None:
    # A program's standard error is all that this form is for (RFC 4254, 5.2), and no program runs at the client.
    raise paramiko.SSHException("extended data from a client")


def _eof(channel: paramiko.Channel, message: paramiko.Message) -> None:
    _STOCK[MSG_CHANNEL_EOF](channel, message)
    transport = channel.get_transport()
    if isinstance(transport, Transport) and (given := transport.inputs.get(channel.chanid)):
        given.end()


if TYPE_CHECKING:

    class _Stock(paramiko.Transport):
        """What paramiko offers to a subclass without declaring it."""

        def _parse_newkeys(self, m: paramiko.Message) -> None: ...
        def _auth_trigger(self) -> None: ...
        def _check_banner(self) -> None: ...
        def _send_message(self, data: paramiko.Message) -> None: ...
        def _send_user_message(self, data: paramiko.Message) -> None: ...

        clear_to_send: threading.Event

else:
    _Stock = paramiko.Transport


_ML_KEM = "mlkem768x25519-sha256"
"""Key exchange that withstands quantum computers (draft-ietf-sshm-mlkem-hybrid-kex); paramiko knows no other."""


class NoPostQuantumError(SlipwayError):
    """Post-quantum key exchange is demanded, and the cryptography library was built without it."""


class Transport(_Stock):
    """The server's end of one SSH connection, on a thread of its own from `start_server` on."""

    _CLIENT_ID = "slipway"
    _active_check_timeout = POLL_SECONDS

    # AES-GCM first: OpenSSH takes the first of its own list that the server has, others take the server's first.
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr")
    _preferred_macs: tuple[str, ...] = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
    _preferred_keys = ("ssh-ed25519",)
    _preferred_pubkeys = tuple(KEY_CLASSES)
    _preferred_kex = tuple(
        name
        for name in (_ML_KEM, "curve25519-sha256", "curve25519-sha256@libssh.org")
        # Post-quantum key exchange depends on what the cryptography library was built with.
        if name.startswith("curve25519") or name in vars(paramiko.Transport)["_kex_info"]
    )
    # RFC 8731 gave libssh's method its name without the domain; the method is the same.
    _kex_info: ClassVar = {**vars(paramiko.Transport)["_kex_info"], "curve25519-sha256": KexCurve25519}
    _channel_handler_table: ClassVar[dict[int, _Handler]] = {
        **_STOCK,
        MSG_CHANNEL_REQUEST: _request,
        MSG_CHANNEL_CLOSE: _close,
        MSG_CHANNEL_DATA: _data,
        MSG_CHANNEL_EXTENDED_DATA: _extended_data,
        MSG_CHANNEL_EOF: _eof,
    }

    def __init__(
        self,
        sock: socket.socket,
        host_key: paramiko.PKey,
        identify: Identify,
        events: ConnectionEvents,
        attempts: int,
        *,
        post_quantum: bool = False,
    ) -> None:
        # Before all that paramiko makes for a connection, since the client goes on when it has read this.
        sock.sendall(farewell.IDENTIFICATION)
        if post_quantum:
            self._preferred_kex = post_quantum_methods()
        super().__init__(sock, default_window_size=WINDOW_BYTES, packetizer_class=BoundedPacketizer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        self.events = events
        self._identify = identify
        self._attempts = attempts
        self.inputs: dict[int, ChannelInput] = {}
        """What clients send on the channels that are open, by the server's number of the channel."""
        self._welcomed = 0.0
        self._round_trip: float | None = None
        self.add_server_key(host_key)

    @property
    def user(self) -> User | None:
        """Who has authenticated on this connection, if anybody has yet."""
        return self.auth_handler.user if isinstance(self.auth_handler, PublicKeyAuthentication) else None

    def run(self) -> None:
        """Speak SSH until the connection ends."""
        try:
            super().run()
        finally:
            self.events.connection_ended(self.saved_exception)
            for given in list(self.inputs.values()):
                given.end()

    def forget(self, channel: paramiko.Channel) -> None:
        """Drop a channel's input; what still comes on it is ignored."""
        if given := self.inputs.pop(channel.chanid, None):
            given.end()

    @property
    def bulk_window(self) -> int:
        """Bytes that the client may send ahead of a program that reads them at once, by how far away it is."""
        far = int((self._round_trip or 0.0) * FAR_BYTES_PER_SECOND)
        return min(max(far, NEAR_WINDOW_BYTES), FAR_WINDOW_BYTES)

    def say_goodbye(self, reason: str) -> None:
        """Tell the client why it is hung up on (RFC 4253, 11.1). Waits while the client does not read."""
        # The connection may end in this very moment, and with it the need to say anything.
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._send_message(farewell.message(farewell.BY_APPLICATION, reason))

    def _check_banner(self) -> None:
        super()._check_banner()
        # Counter mode with such a MAC has no known weakness; but newer ways are better, so nobody else is offered it.
        if OLD_LIBSSH2.match(self.remote_version):
            self._preferred_macs = (*self._preferred_macs, "hmac-sha2-256", "hmac-sha2-512")

    def _parse_newkeys(self, m: paramiko.Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = PublicKeyAuthentication(self, self._identify, self._attempts)
        super()._parse_newkeys(m)
        # What could not be granted while keys were exchanged.
        for given in list(self.inputs.values()):
            given.settle()

    def _auth_trigger(self) -> None:
        super()._auth_trigger()
        self._welcomed = time.monotonic()
        if isinstance(self.packetizer, BoundedPacketizer):
            self.packetizer.trust()
        self.set_keepalive(KEEPALIVE_SECONDS)
        if self.user is not None:
            self.events.authenticated_as(self.user)

    def _queue_incoming_channel(self, channel: paramiko.Channel) -> None:
        if self._round_trip is None:
            # A client opens its first channel when it reads that it is welcome, through whatever lies between: TCP
            # itself would only know the way to the nearest relay.
            self._round_trip = time.monotonic() - self._welcomed
        self.inputs[channel.chanid] = ChannelInput(lambda count: self._grant(channel, count))
        self.events.channel_opened(channel)

    def _grant(self, channel: paramiko.Channel, count: int) -> bool:
        """Let the client send `count` bytes more on a channel (RFC 4254, 5.2); False if that cannot be said now."""
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
        message.add_int(channel.remote_chanid)
        message.add_int(count)
        if threading.current_thread() is not self:
            try:
                self._send_user_message(message)
            except (OSError, EOFError, paramiko.SSHException):
                return False
            return True
        # In the midst of a key exchange nothing else may be sent (RFC 4253, 7.1), and waiting for its end here would
        # be waiting for ourselves.
        if self.clear_to_send.is_set():
            self._send_message(message)
            return True
        return False

    def _log(self, level: int, msg: Any, *args: Any) -> None:
        """Drop what would be formatted for nobody, several times per packet."""


def post_quantum_methods() -> tuple[str, ...]:
    """Return the methods of key exchange that withstand quantum computers. Raises NoPostQuantumError."""
    if _ML_KEM not in Transport._preferred_kex:
        raise NoPostQuantumError(
            "the cryptography library of this Python has no ML-KEM, so that post-quantum key exchange cannot be "
            "demanded; install a newer one, or set SLIPWAY_KEY_EXCHANGE to any"
        )
    return (_ML_KEM,)
