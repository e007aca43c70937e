"""What a client hears at the end: a disconnect message (RFC 4253, 11.1), whose reason OpenSSH shows its user."""

from __future__ import annotations

import struct

import paramiko
from paramiko.common import cMSG_DISCONNECT

SERVICE_NOT_AVAILABLE = 7
BY_APPLICATION = 11
TOO_MANY_CONNECTIONS = 12
"""Reason codes (RFC 4253, 11.1)."""

IDENTIFICATION = b"SSH-2.0-slipway\r\n"
"""Who is speaking (RFC 4253, 4.2)."""


def message(code: int, reason: str) -> paramiko.Message:
    """Return a disconnect message."""
    made = paramiko.Message()
    made.add_byte(cMSG_DISCONNECT)
    made.add_int(code)
    made.add_string(reason)
    made.add_string("en")
    return made


def before_keys(reason: str) -> bytes:
    """Return all that is said to a client that gets no connection: who is speaking, and a disconnect in plain text.

    Before keys are exchanged a packet is its length, the length of its padding, the message, and padding up to a
    multiple of eight bytes (RFC 4253, 6).
    """
    payload = bytes(message(TOO_MANY_CONNECTIONS, reason).asbytes())
    padding = 4 + -(len(payload) + 9) % 8
    return IDENTIFICATION + struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)
