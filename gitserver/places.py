"""Places for connections, counted over all front doors, so that no client and no crowd of them takes every one.

The count is in memory that the front doors' processes share, a row for each, and each writes only to its own. A
process that died leaves its row behind; its successor begins by clearing it. Two processes that take a place in the
same instant may go over a limit by one, which harms nobody and spares a lock that a dying process could keep.
"""

from __future__ import annotations

import hashlib
import ipaddress
import mmap
import secrets
from dataclasses import dataclass

from gitserver.counters import Count
from gitserver.limits import ConnectionLimits
from store.errors import RefusedError

_STRANGER = 1 << 63
"""Set in a place's number as long as its client has not authenticated."""

_BYTES = 8
"""Of one place's number: 0 for a free one."""


class NoPlaceError(RefusedError):
    """A connection is over a limit, and is told so before anything else."""

    counted = Count.REFUSED_FULL


class AddressFullError(NoPlaceError):
    """One address has as many connections as it may."""

    counted = Count.REFUSED_ADDRESS


class TooManyStrangersError(NoPlaceError):
    """As many clients are logging in as may at once."""

    counted = Count.REFUSED_STRANGERS


@dataclass(frozen=True)
class Place:
    """One connection's place."""

    _row: memoryview
    _index: int

    def settle(self) -> None:
        """Note that the client has authenticated."""
        self._row[self._index] &= ~_STRANGER

    def leave(self) -> None:
        """Free the place; to be called once."""
        self._row[self._index] = 0


class Places:
    """The places of all front doors. To be made before their processes are started."""

    def __init__(self, limits: ConnectionLimits, doors: int = 1) -> None:
        self.limits = limits
        self._all = memoryview(mmap.mmap(-1, doors * limits.connections * _BYTES)).cast("Q")
        # Nobody outside may choose addresses that are counted as one.
        self._key = secrets.token_bytes(16)

    def of(self, door: int) -> DoorPlaces:
        """Return the places of one front door, counted from 0, all of them free."""
        size = self.limits.connections
        return DoorPlaces(self, self._all[door * size : (door + 1) * size])

    def taken(self) -> list[int]:
        """Return the numbers of all places that are taken."""
        return list(filter(None, self._all.tolist()))

    def strangers(self) -> int:
        """Return how many of the places are taken by clients who have not authenticated."""
        return sum(number >= _STRANGER for number in self.taken())

    def number(self, address: str) -> int:
        """Return what an address is counted under: never 0, and below the mark of strangers."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            ip = ip.ipv4_mapped or ip
        # One customer gets an IPv6 /64, and with it more addresses than could be counted.
        counted = ip.packed[:8] if ip.version == 6 else ip.packed
        digest = hashlib.blake2b(counted, digest_size=_BYTES, key=self._key).digest()
        return int.from_bytes(digest) & ~_STRANGER | 1


class DoorPlaces:
    """The places that one front door gives away."""

    def __init__(self, places: Places, row: memoryview) -> None:
        self._places = places
        self._row = row
        for index in range(len(row)):
            row[index] = 0

    def take(self, address: str) -> Place:
        """Take a place for a client that has not authenticated. Raises NoPlaceError."""
        limits, number = self._places.limits, self._places.number(address)
        taken = self._places.taken()
        if len(taken) >= limits.connections:
            raise NoPlaceError("the server has as many connections as it takes; try again in a moment")
        if sum(other & ~_STRANGER == number for other in taken) >= limits.per_address:
            raise AddressFullError(
                f"your address has {limits.per_address} connections open, which is the most; close some of them"
            )
        if sum(other >= _STRANGER for other in taken) >= limits.strangers:
            raise TooManyStrangersError("too many clients are logging in at once; try again in a moment")
        return self._take(number)

    def take_anyway(self, address: str) -> Place:
        """Take a place whatever the limits say, in the stead of a connection that is being closed."""
        return self._take(self._places.number(address))

    def _take(self, number: int) -> Place:
        try:
            index = self._row.tolist().index(0)
        except ValueError:
            raise NoPlaceError("the server has as many connections as it takes; try again in a moment") from None
        self._row[index] = number | _STRANGER
        return Place(self._row, index)
