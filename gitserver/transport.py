"""One SSH connection's encryption and channels (RFC 4253, RFC 4254): paramiko's Transport, narrowed.

It offers modern algorithms only, and tells its owner about the ends of channels that paramiko keeps to itself: a client
that closes a channel, and a connection that dies.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
)
from paramiko.kex_curve25519 import KexCurve25519

from gitserver.authentication import KEY_CLASSES, Identify, PublicKeyAuthentication
from gitserver.packets import BoundedPacketizer
from hooks.engine_room import User

# Paramiko's log speaks of packets; what matters of it reaches the log of the program as the end of a connection.
# Without a handler of its own, Python would print its warnings to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

WINDOW_BYTES = 4 << 20
"""What a client may send on a channel ahead of our reading it (RFC 4254, 5.2)."""

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
        transport.events.channel_closed(channel)


def _within_window(kind: int) -> _Handler:
    def receive(channel: paramiko.Channel, message: paramiko.Message) -> None:
        _STOCK[kind](channel, message)
        # Paramiko announces a window and then takes whatever comes.
        if len(channel.in_buffer) + len(channel.in_stderr_buffer) > 2 * WINDOW_BYTES:
            raise paramiko.SSHException("more data than the channel's window allows")

    return receive


if TYPE_CHECKING:

    class _Stock(paramiko.Transport):
        """What paramiko offers to a subclass without declaring it."""

        def _parse_newkeys(self, m: paramiko.Message) -> None: ...
        def _auth_trigger(self) -> None: ...

else:
    _Stock = paramiko.Transport


class Transport(_Stock):
    """The server's end of one SSH connection, on a thread of its own from `start_server` on."""

    _CLIENT_ID = "slipway"

    # AES-GCM first: OpenSSH takes the first of its own list that the server has, others take the server's first.
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr")
    _preferred_macs = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
    _preferred_keys = ("ssh-ed25519",)
    _preferred_pubkeys = tuple(KEY_CLASSES)
    _preferred_kex = tuple(
        name
        for name in ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org")
        # Post-quantum key exchange depends on what the cryptography library was built with.
        if name.startswith("curve25519") or name in vars(paramiko.Transport)["_kex_info"]
    )
    # RFC 8731 gave libssh's method its name without the domain; the method is the same.
    _kex_info: ClassVar = {**vars(paramiko.Transport)["_kex_info"], "curve25519-sha256": KexCurve25519}
    _channel_handler_table: ClassVar[dict[int, _Handler]] = {
        **_STOCK,
        MSG_CHANNEL_REQUEST: _request,
        MSG_CHANNEL_CLOSE: _close,
        MSG_CHANNEL_DATA: _within_window(MSG_CHANNEL_DATA),
        MSG_CHANNEL_EXTENDED_DATA: _within_window(MSG_CHANNEL_EXTENDED_DATA),
    }

    def __init__(
        self, sock: socket.socket, host_key: paramiko.PKey, identify: Identify, events: ConnectionEvents
    ) -> None:
        super().__init__(sock, default_window_size=WINDOW_BYTES, packetizer_class=BoundedPacketizer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        self.events = events
        self._identify = identify
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

    def _parse_newkeys(self, m: paramiko.Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = PublicKeyAuthentication(self, self._identify)
        super()._parse_newkeys(m)

    def _auth_trigger(self) -> None:
        super()._auth_trigger()
        if isinstance(self.packetizer, BoundedPacketizer):
            self.packetizer.trust()
        self.set_keepalive(KEEPALIVE_SECONDS)
        if self.user is not None:
            self.events.authenticated_as(self.user)

    def _queue_incoming_channel(self, channel: paramiko.Channel) -> None:
        self.events.channel_opened(channel)

    def _log(self, level: int, msg: Any, *args: Any) -> None:
        """Drop what would be formatted for nobody, several times per packet."""
