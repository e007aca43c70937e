"""SSH packets (RFC 4253, section 6) with bounds that hold before anybody has authenticated.

Paramiko reads as many bytes as a packet announces, however many those are, and looks for the end of the identification
line for as long as bytes come.
"""

from __future__ import annotations

import socket
import time

import paramiko
from paramiko.packet import Packetizer

MAX_STRANGER_BYTES = 35_000
"""Longest read for a client that has not authenticated: what every SSH implementation must accept (RFC 4253, 6.1)."""

MAX_BYTES = 256 * 1024
"""Longest read after authentication: OpenSSH's own limit, `PACKET_MAX_SIZE`."""

MAX_IDENTIFICATION_BYTES = 1024
"""Longest prelude up to the end of the client's identification line, itself at most 255 bytes (RFC 4253, 4.2)."""


class BoundedPacketizer(Packetizer):
    """A packetizer whose memory does not depend on what a stranger announces.

    What is over a bound raises SSHException, which ends the connection.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._sock = sock
        self._bound = MAX_STRANGER_BYTES
        self._identification_bytes = 0

    def trust(self) -> None:
        """Accept the longer packets of a client that has authenticated."""
        self._bound = MAX_BYTES

    def start_handshake(self, timeout: float) -> None:
        """Start no timer, which would be a thread per connection: the login grace time covers the handshake."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Read `n` bytes, all of which belong to one packet."""
        if n > self._bound:
            raise paramiko.SSHException(f"a packet of {n} bytes, where {self._bound} is the most")
        return super().read_all(n, check_rekey)

    def readline(self, timeout: float) -> str:
        """Read a line of what comes before the first packet, within `timeout` seconds; return it without its end."""
        deadline = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            if self._identification_bytes > MAX_IDENTIFICATION_BYTES:
                raise paramiko.SSHException("no identification line where one belongs")
            try:
                # What follows the line is packets, so no byte of it may be taken from the socket here.
                seen = self._sock.recv(MAX_IDENTIFICATION_BYTES, socket.MSG_PEEK)
            except TimeoutError:
                if self.closed or time.monotonic() > deadline:
                    raise EOFError from None
                continue
            if not seen:
                raise EOFError
            taken = self._sock.recv(seen.find(b"\n") + 1 or len(seen))
            self._identification_bytes += len(taken)
            line += taken
        return line[:-1].removesuffix(b"\r").decode("ascii")
