"""A network of the tests' own.

An engine rewrites the firewall and the bridges of the network namespace that it runs in. In a namespace of its own it
is a complete engine, and one that runs on the machine already does not notice; every port of the loopback address is
free, and the kernel takes all of it away when the last process has gone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from demo import interface

_CLONE_NEWNET = 0x40000000
"""linux/sched.h; `os.unshare` would do, but is Python 3.12's."""

_MACHINE = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
"""The network that the tests were started in."""

_LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp (linux/tcp_states.h)."""


def enter_own() -> bool:
    """Move this thread, and all that it starts from now on, into a new network namespace; False if it may not."""
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return False
    interface.bring_up("lo")
    return True


def outside(words: Sequence[str | Path]) -> list[str | Path]:
    """Return the words of a command that runs in the machine's own network, for what has to reach the outside."""
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{_MACHINE}", "--", *words]


def listening_ports() -> list[int]:
    """Return the TCP ports that somebody listens on in this thread's network namespace."""
    ports = set()
    for table in (Path("/proc/thread-self/net/tcp"), Path("/proc/thread-self/net/tcp6")):
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == _LISTEN:
                ports.add(int(local.rpartition(":")[2], 16))
    return sorted(ports)
