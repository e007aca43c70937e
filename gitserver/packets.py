"""SSH packets as they come in (RFC 4253, section 6; RFC 5647 for AES-GCM): bounded, and read with few copies.

Paramiko reads as many bytes as a packet announces, however many those are, looks for the end of the identification
line for as long as bytes come, and takes a packet from the socket in several pieces. Here there is one buffer per
connection, which holds the largest packet that is taken; a packet is decrypted out of it in one step.
"""

from __future__ import annotations

import hmac
import mmap
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import paramiko
from cryptography.exceptions import InvalidTag
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.packet import NeedRekeyException, Packetizer

from gitserver import farewell

MAX_STRANGER_BYTES = 35_000
"""Longest packet of a client that has not authenticated: what all implementations must accept (RFC 4253, 6.1)."""

MAX_BYTES = 256 * 1024
"""Longest packet after authentication: OpenSSH's own limit, `PACKET_MAX_SIZE`."""

MAX_IDENTIFICATION_BYTES = 1024
"""Longest prelude up to the end of the client's identification line, itself at most 255 bytes (RFC 4253, 4.2)."""

MAC_BYTES = 64
"""Longest authentication tag or MAC that follows a packet."""

BLOCK_BYTES = 16
"""AES's block."""

BULK_BYTES = 16 * 1024
"""A read of fewer bytes than this is conversation, where the other side waits for us; more is a stream."""


if TYPE_CHECKING:

    class _Stock(Packetizer):
        """What paramiko offers to a subclass without declaring it."""

        _initial_kex_done: bool

        def _check_keepalive(self) -> None: ...
        def _trigger_rekey(self) -> None: ...

else:
    _Stock = Packetizer


class ChannelData(paramiko.Message):
    """SSH_MSG_CHANNEL_DATA (RFC 4254, 5.2) whose data are not copied out of the packet."""

    def __init__(self, payload: memoryview) -> None:
        # Paramiko's own constructor would copy everything into a file object.
        self._payload = payload
        self._position = 0

    def get_int(self) -> int:
        """Return the next 32-bit integer, the recipient channel."""
        value = int.from_bytes(self._payload[self._position : self._position + 4])
        self._position += 4
        return value

    def data(self) -> memoryview:
        """Return the data, which are valid for as long as somebody holds them."""
        size = self.get_int()
        return self._payload[self._position : self._position + size]


class BoundedPacketizer(_Stock):
    """A packetizer whose memory does not depend on what a client announces.

    What is over a bound raises SSHException, which ends the connection. It reads the four forms of packets that the
    server's algorithms lead to: plain, AES-GCM, and counter mode with a MAC over the ciphertext or over the plain text.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._sock = sock
        self._bound = MAX_STRANGER_BYTES
        # Anonymous memory, of which only the pages exist that have been written to: idle connections stay small.
        self._buffer = memoryview(mmap.mmap(-1, 4 + MAX_BYTES + MAC_BYTES))
        self._start = self._end = 0
        self._read_packet: Callable[[], tuple[bytes, int]] = self._read_plain
        self._engine: Any = None
        self._iv = b""
        self._mac_key = b""
        self._mac_digest: Any = None
        self._mac_bytes = 0
        self._sequence = 0
        self._bytes = self._packets = self._overflow = 0

    def trust(self) -> None:
        """Accept the longer packets of a client that has authenticated."""
        self._bound = MAX_BYTES

    def start_handshake(self, timeout: float) -> None:
        """Start no timer, which would be a thread per connection: the login grace time covers the handshake."""

    def write_all(self, out: Any) -> None:
        """Write all of it. The identification line is not repeated: it was sent when the connection was accepted."""
        if out != farewell.IDENTIFICATION:
            super().write_all(out)

    def close(self) -> None:
        """Close the socket, and wake whoever is waiting for it in another thread: closing alone does not."""
        # The client may have been faster.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        super().close()

    def set_inbound_cipher(
        self,
        block_engine: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: Any,
        etm: bool = False,
        aead: bool = False,
        iv_in: bytes | None = None,
    ) -> None:
        """Take the keys for what comes after the client's NEWKEYS."""
        super().set_inbound_cipher(block_engine, block_size, mac_engine, mac_size, mac_key, etm, aead, iv_in)
        self._engine = block_engine
        self._iv = iv_in or b""
        self._mac_key, self._mac_digest, self._mac_bytes = mac_key or b"", mac_engine, mac_size
        self._read_packet = self._read_aead if aead else self._read_etm if etm else self._read_mac_of_plain
        self._bytes = self._packets = self._overflow = 0

    def reset_seqno_in(self) -> None:
        """Begin to count anew, as strict key exchange does at NEWKEYS."""
        self._sequence = 0

    def readline(self, timeout: float) -> str:
        """Read a line of what comes before the first packet, within `timeout` seconds; return it without its end."""
        deadline = time.monotonic() + timeout
        while True:
            end = bytes(self._buffer[self._start : self._end]).find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[self._start : self._start + end])
                self._start += end + 1
                return line.removesuffix(b"\r").decode("ascii")
            if self._end > MAX_IDENTIFICATION_BYTES:
                raise paramiko.SSHException("no identification line where one belongs")
            if time.monotonic() > deadline:
                raise EOFError
            self._receive(check_rekey=False)

    def read_message(self) -> tuple[int, paramiko.Message]:
        """Read one packet and return its message number and the message.

        Raises SSHException for a packet that is mangled or too long, NeedRekeyException when nothing comes and new keys
        are due, and EOFError at the end.
        """
        packet, size = self._read_packet()
        padding = packet[0]
        if size - padding <= 1:
            raise paramiko.SSHException("a packet that is all padding")
        kind = packet[1]
        message = (
            ChannelData(memoryview(packet)[2 : size - padding])
            if kind == MSG_CHANNEL_DATA
            else paramiko.Message(packet[2 : size - padding])
        )
        message.seqno = self._sequence
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        if self._sequence == 0 and not self._initial_kex_done:
            raise paramiko.SSHException("the sequence number rolled over during the first key exchange")
        self._count(size + 4 + self._mac_bytes)
        return kind, message

    def _read_plain(self) -> tuple[bytes, int]:
        size = self._size(0)
        return bytes(self._take(4 + size)[4:]), size

    def _read_aead(self) -> tuple[bytes, int]:
        size = self._size(self._mac_bytes)
        packet = self._take(4 + size + self._mac_bytes)
        try:
            plain: bytes = self._engine.decrypt(self._iv, packet[4:], packet[:4])
        except InvalidTag:
            raise paramiko.SSHException("a packet was changed on its way") from None
        # The last eight bytes count the packets (RFC 5647, 7.1).
        self._iv = self._iv[:4] + ((int.from_bytes(self._iv[4:]) + 1) & 0xFFFFFFFFFFFFFFFF).to_bytes(8)
        return plain, size

    def _read_etm(self) -> tuple[bytes, int]:
        size = self._size(self._mac_bytes)
        packet = self._take(4 + size + self._mac_bytes)
        mac = hmac.new(self._mac_key, self._sequence.to_bytes(4), self._mac_digest)
        mac.update(packet[: 4 + size])
        if not hmac.compare_digest(mac.digest()[: self._mac_bytes], packet[4 + size :]):
            raise paramiko.SSHException("a packet was changed on its way")
        plain: bytes = self._engine.update(packet[4 : 4 + size])
        return plain, size

    def _read_mac_of_plain(self) -> tuple[bytes, int]:
        self._wait_for(BLOCK_BYTES)
        # The length is encrypted as well, so the first block has to be read to know how many follow (RFC 4253, 6).
        first: bytes = self._engine.update(self._take(BLOCK_BYTES))
        size = self._bounded(int.from_bytes(first[:4]), self._mac_bytes)
        rest = self._take(4 + size + self._mac_bytes - BLOCK_BYTES)
        plain = first + self._engine.update(rest[: -self._mac_bytes])
        mac = hmac.new(self._mac_key, self._sequence.to_bytes(4) + plain, self._mac_digest).digest()
        if not hmac.compare_digest(mac[: self._mac_bytes], rest[-self._mac_bytes :]):
            raise paramiko.SSHException("a packet was changed on its way")
        return plain[4:], size

    def _size(self, tag: int) -> int:
        """Wait for the next packet's length, and return it if the packet may be taken."""
        self._wait_for(4)
        return self._bounded(int.from_bytes(self._buffer[self._start : self._start + 4]), tag)

    def _wait_for(self, count: int) -> None:
        """Wait for the first `count` bytes of a packet; new keys may fall due meanwhile."""
        while self._end - self._start < count:
            self._receive(check_rekey=self._end == self._start, room=count)

    def _bounded(self, size: int, tag: int) -> int:
        # Twelve is the shortest with four bytes of padding and the smallest block (RFC 4253, 6).
        if not 12 <= size <= self._bound - tag:
            raise paramiko.SSHException(f"a packet of {size} bytes, where {self._bound} is the most")
        return size

    def _take(self, size: int) -> memoryview:
        """Wait for `size` bytes and return them, valid until the next one is read."""
        while self._end - self._start < size:
            self._receive(check_rekey=False, room=size)
        taken = self._buffer[self._start : self._start + size]
        self._start += size
        return taken

    def _receive(self, *, check_rekey: bool, room: int = 4) -> None:
        """Put at least one more byte into the buffer, making room for `room` bytes in one piece."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + room > len(self._buffer):
            rest = bytes(self._buffer[self._start : self._end])
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        while True:
            try:
                # A stranger's bytes are taken packet by packet, so that few pages of the buffer come into being.
                count = self._sock.recv_into(self._buffer[self._end : 4 + self._bound + self._start + MAC_BYTES])
            except TimeoutError:
                if self.closed:
                    raise EOFError from None
                if check_rekey and self.need_rekey():
                    raise NeedRekeyException from None
                self._check_keepalive()
                continue
            except OSError:
                if self.closed:
                    raise EOFError from None
                raise
            break
        if count == 0:
            raise EOFError
        self._end += count
        if count < BULK_BYTES:
            # The kernel falls back to delayed acknowledgements by itself (tcp(7), TCP_QUICKACK), and a client whose
            # Nagle's algorithm waits for one loses 40 ms each time.
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _count(self, size: int) -> None:
        """Ask for new keys after so many bytes or packets, and hang up where the client does not answer."""
        self._bytes += size
        self._packets += 1
        if self.need_rekey():
            self._overflow += size
            if self._overflow >= self.REKEY_BYTES_OVERFLOW_MAX:
                raise paramiko.SSHException("the client ignores that new keys are due")
        elif self._bytes >= self.REKEY_BYTES or self._packets >= self.REKEY_PACKETS:
            self._overflow = 0
            self._trigger_rekey()
