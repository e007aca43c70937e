"""What front doors count, in memory that they share with whoever reads it.

As with places, each front door has a row and writes only to its own. A row outlives its process: what a front door that
was killed has counted stays counted, and its successor goes on from there.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from dataclasses import dataclass
from enum import IntEnum, auto

_BYTES = 8
"""Of one number: none of them gets to the end of that."""

_MASK = (1 << 64) - 1


class Count(IntEnum):
    """Where in its row a front door keeps each number."""

    PROCESS = 0
    """The id of the process that has the row, 0 for none."""
    SEEN_AT = auto()
    """When it last went round its loop: milliseconds of the monotonic clock, which all processes share."""
    CONNECTIONS = auto()
    """Connections that got a place."""
    REFUSED_FULL = auto()
    """Connections turned away since there were as many as may be."""
    REFUSED_ADDRESS = auto()
    """Connections turned away since their address had as many as it may."""
    REFUSED_STRANGERS = auto()
    """Connections turned away, or closed for another, since too many were logging in."""
    LOGINS = auto()
    UNKNOWN_KEYS = auto()
    """Public keys asked about or signed with that are nobody's."""
    BYTES_RECEIVED = auto()
    """What clients sent in their sessions, without SSH's own part."""
    BYTES_SENT = auto()
    FETCHES = auto()
    """Sessions of git-upload-pack."""
    COMMANDS = auto()
    """Sessions of user commands."""
    PUSHES_ACCEPTED = auto()
    """Pushes of which every ref was taken."""
    PUSHES_PARTLY = auto()
    """Pushes of which some refs were taken."""
    PUSHES_REFUSED = auto()
    """Pushes of which no ref was taken, broken packs and failed deploys among them."""
    PUSHES_ABANDONED = auto()
    """Pushes whose client left before the report."""


@dataclass(frozen=True)
class Sign:
    """A front door's last sign of life."""

    process: int
    seconds_ago: float


class Counters:
    """The numbers of all front doors. To be made before their processes, and those that read, are started."""

    def __init__(self, doors: int = 1) -> None:
        self._all = memoryview(mmap.mmap(-1, doors * len(Count) * _BYTES)).cast("Q")
        self._doors = doors

    def of(self, door: int) -> DoorCounters:
        """Return the numbers of one front door, counted from 0, for the process that calls this to add to."""
        return DoorCounters(self._row(door))

    def total(self, count: Count) -> int:
        """Return one number, added up over all front doors since the server's start."""
        return sum(self._row(door)[count] for door in range(self._doors))

    def signs(self) -> list[Sign]:
        """Return the signs of life of the front doors that have given one, in the order of their numbers."""
        now = _milliseconds()
        rows = [self._row(door) for door in range(self._doors)]
        seen = [(row[Count.PROCESS], row[Count.SEEN_AT]) for row in rows]
        return [Sign(process, max(0, now - at) / 1000) for process, at in seen if process]

    def forget(self, door: int) -> None:
        """Note that a front door's process has ended; its counts stay."""
        self._row(door)[Count.PROCESS] = 0

    def _row(self, door: int) -> memoryview:
        return self._all[door * len(Count) : (door + 1) * len(Count)]


class DoorCounters:
    """The numbers of one front door, written by its process alone, from any of its threads."""

    def __init__(self, row: memoryview) -> None:
        self._row = row
        self._lock = threading.Lock()

    def add(self, count: Count, number: int = 1) -> None:
        """Count."""
        with self._lock:
            self._row[count] = (self._row[count] + number) & _MASK

    def beat(self) -> None:
        """Give a sign of life."""
        self._row[Count.SEEN_AT] = _milliseconds()
        self._row[Count.PROCESS] = os.getpid()


def _milliseconds() -> int:
    return int(time.monotonic() * 1000)
