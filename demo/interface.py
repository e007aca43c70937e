"""Network interfaces by ioctl: a bridge for an engine of our own, and the loopback of a new network namespace.

The `ip` program would do the same, but belongs to a package that a small Debian does without. Requests and structures
are those of netdevice(7) and the kernel's `linux/sockios.h`.
"""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCBRADDBR = 0x89A0
_SIOCBRDELBR = 0x89A1
_IFF_UP = 0x1
_NAME_BYTES = 16
"""IFNAMSIZ: an interface's name, its closing zero byte included."""


def exists(name: str) -> bool:
    """Return whether this network namespace has an interface of that name."""
    return name in (known for _, known in socket.if_nameindex())


def bring_up(name: str) -> None:
    """Switch an interface on. Raises OSError where there is none of that name, or without the right to."""
    _set_up(name, True)


def add_bridge(name: str) -> None:
    """Create an Ethernet bridge of that name, without an address. Raises FileExistsError where the name is taken."""
    _request(_SIOCBRADDBR, _name(name))


def delete_bridge(name: str) -> None:
    """Switch a bridge off and delete it. Raises OSError where there is none of that name."""
    _set_up(name, False)
    _request(_SIOCBRDELBR, _name(name))


def _set_up(name: str, up: bool) -> None:
    answer = _request(_SIOCGIFFLAGS, struct.pack("16sH14x", _name(name), 0))
    (flags,) = struct.unpack_from("H", answer, _NAME_BYTES)
    flags = flags | _IFF_UP if up else flags & ~_IFF_UP
    _request(_SIOCSIFFLAGS, struct.pack("16sH14x", _name(name), flags))


def _name(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) < _NAME_BYTES:
        raise ValueError(f"'{name}' is no name for a network interface: 1 to {_NAME_BYTES - 1} bytes")
    return encoded.ljust(_NAME_BYTES, b"\0")


def _request(number: int, argument: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, number, argument)
