"""Thousands of connections that want nothing good, and the people beside them, who notice nothing."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable

from gitserver.front_door import MAX_TURNED_AWAY
from tests.gitserver.conftest import Door, assert_sound, eventually, server_git, workspace

STRANGERS = 40

ARRIVALS = 2000

KEPT = 500
"""So many the crowd holds on to at its own end."""

HELLOS = [
    # Silent, in the first line, in the key exchange, and with a packet that never comes whole.
    b"",
    b"SSH-2.0-slow",
    b"SSH-2.0-half\r\n" + struct.pack(">IBB", 1000, 10, 20) + bytes(500),
    b"SSH-2.0-stalled\r\n" + struct.pack(">I", 30_000),
]


def test_a_crowd_of_every_kind_keeps_nobody_out_and_leaves_nothing(start_door: Callable[..., Door]) -> None:
    door = start_door(strangers=STRANGERS)
    before = door.settled()
    work = workspace(door, "alice", "shop")
    crowd: deque[socket.socket] = deque()
    most = 0
    for number in range(ARRIVALS):
        address = f"127.0.1.{number % 30 + 1}"
        crowd.append(socket.create_connection(("127.0.0.1", door.port), source_address=(address, 0)))
        crowd[-1].sendall(HELLOS[number % len(HELLOS)])
        for slow in list(crowd)[:-10:100]:
            drip(slow)
        if len(crowd) > KEPT:
            crowd.popleft().close()
        if number % 500 == 499:
            most = max(most, door.counts()[1])
            commit = work.commit(text=f"{number}\n")
            work.git("push", "aptible", "main:stored")
            assert server_git(door, "shop", "rev-parse", "stored") == commit
            assert door.ssh("bob", "whoami").stdout == b"bob\n"
    # A few descriptors for each place that strangers may take, and one for each who is being told to go.
    assert most < before[1] + 3 * STRANGERS + MAX_TURNED_AWAY
    for connection in crowd:
        connection.close()
    eventually(lambda: door.counts() == before, f"{before} became {door.counts()}")
    assert_sound(door, "shop")


def drip(connection: socket.socket) -> None:
    """Send one byte more, as who would hold a place with next to nothing, unless it has been hung up on."""
    try:
        connection.send(b"x")
    except OSError:
        return
