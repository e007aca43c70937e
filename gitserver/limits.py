"""How much clients may take: connections, time, and what a push brings. One value holds it all, with defaults for each.

A push that is over a limit is refused with a sentence that names the limit's setting, so that whoever runs the server
knows what to change. Where a size is checked is up to the code that first knows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from store.errors import SlipwayError

INFLATION_FLOOR_BYTES = 32 << 20
"""Up to this many inflated bytes no ratio counts: a small repetitive file is no attack, and harms nobody."""


class PushLimitError(SlipwayError):
    """A push brings more than this server takes. Nothing of it was kept."""


MORE_PER_HELD_BYTE = 8
"""Text is compressed to a sixth or so, and a delta takes what it is made from and what it makes at the same time."""

MOST_MORE_BYTES = 256 << 20
"""However much somebody has sent before."""


@dataclass(frozen=True)
class PushLimits:
    """What one push may bring. Its methods raise PushLimitError."""

    refs: int = 50_000
    """Commands of one push."""
    pack_bytes: int = 2 << 30
    """The pack as it is sent."""
    objects: int = 5_000_000
    """Objects that the pack says it has."""
    object_bytes: int = 1 << 30
    """One object, inflated and with its deltas applied."""
    inflated_bytes: int = 16 << 30
    """All that the pack's zlib streams inflate to. Deltas are not applied: a long history of one large file adds up to
    any multiple of its pack without anybody holding it at once."""
    inflation_ratio: int = 200
    """The same as a multiple of the pack's own size. Text is below 10; zlib's own bound is 1032 (zlib's technical
    details, "Maximum Compression Factor")."""

    unpack_bytes: int = 24 << 20
    """Memory for taking a pack apart. Large files pass through in pieces; folders, commits and deltas have to be held
    as a whole. Half of it is for what the number of objects needs, and grows where that is more."""

    def check_refs(self, count: int) -> None:
        """Take `count` commands."""
        if count > self.refs:
            raise PushLimitError(
                f"more than {self.refs:,} refs in one push; push them in portions ({_whoever('push_refs')})"
            )

    def check_objects(self, count: int) -> None:
        """Take a pack that announces `count` objects."""
        if count > self.objects:
            raise PushLimitError(
                f"the pack says that it has {count:,} objects, and {self.objects:,} are the most; push the history in "
                f"portions ({_whoever('pack_objects')})"
            )

    def check_pack(self, received: int) -> None:
        """Take a pack of which `received` bytes have come."""
        if received > self.pack_bytes:
            raise PushLimitError(
                f"the pack is larger than {size(self.pack_bytes)}; push the history in portions, or keep large files "
                f"elsewhere ({_whoever('pack_size')})"
            )

    def check_object(self, inflated: int) -> None:
        """Take one object of `inflated` bytes."""
        if inflated > self.object_bytes:
            raise PushLimitError(
                f"an object of the push is larger than {size(self.object_bytes)}; keep large files elsewhere "
                f"({_whoever('object_size')})"
            )

    def check_inflation(self, inflated: int, received: int) -> None:
        """Take `inflated` bytes that came out of `received` bytes of pack."""
        if inflated > self.inflated_bytes:
            raise PushLimitError(
                f"the pack inflates to more than {size(self.inflated_bytes)}; push the history in portions "
                f"({_whoever('inflated_size')})"
            )
        if inflated > max(INFLATION_FLOOR_BYTES, self.inflation_ratio * received):
            raise PushLimitError(
                f"the pack inflates to more than {self.inflation_ratio} times its size; keep such files compressed "
                f"({_whoever('inflation_ratio')})"
            )

    def unpack_memory(self, objects: int, bytes_per_object: int) -> int:
        """Return the bytes in which a pack of so many objects is taken apart."""
        return max(self.unpack_bytes, self.unpack_bytes // 2 + objects * bytes_per_object)

    def more_unpack_memory(self, memory: int, held_bytes: int) -> int:
        """Return what may be taken in place of `memory` where `held_bytes` lie on the disk, of the pack and before.

        Deltas of large files need it, and whoever has such files has sent them once; a bomb is small.
        """
        more = min(MOST_MORE_BYTES, MORE_PER_HELD_BYTE * held_bytes)
        return (memory + more) >> 20 << 20  # whole MiB, to be told of

    def no_memory(self, memory: int | None = None) -> PushLimitError:
        """Return what to say of a pack that cannot be taken apart in so many bytes of memory.

        With a depth of 0, git-pack-objects(1) uses no delta that it has either; `core.bigFileThreshold` leaves those.
        """
        return PushLimitError(
            f"taking the push apart takes more than {size(memory or self.unpack_bytes)} of memory, as deltas of large "
            "files do; send them whole, with git -c pack.depth=0 push, or keep large files elsewhere "
            f"({_whoever('unpack_memory')})"
        )


@dataclass(frozen=True)
class ConnectionLimits:
    """Who may hold a connection, how many, and for how long."""

    connections: int = 1000
    """Connections in all, over every front door."""
    per_address: int = 100
    """Connections of one address, an IPv6 /64 counting as one: it is what one customer gets."""
    strangers: int = 100
    """Connections that have not authenticated yet (sshd_config(5), MaxStartups)."""
    attempts: int = 10
    """Failed authentications of one connection, asking about a key included; a client with more keys names one."""
    login_seconds: float = 60.0
    """How long a client may take to authenticate (sshd_config(5), LoginGraceTime; OpenSSH allows 120)."""
    idle_seconds: float = 600.0
    """How long an authenticated client may keep a connection on which nothing happens: no session runs, or one waits
    for the client alone."""
    post_quantum: bool = False
    """Whether only those may connect whose key exchange withstands quantum computers."""


@dataclass(frozen=True)
class Limits:
    """All limits of a front door."""

    connection: ConnectionLimits = field(default_factory=ConnectionLimits)
    push: PushLimits = field(default_factory=PushLimits)


def size(count: int) -> str:
    """Return a number of bytes as people write it, in the largest unit that leaves it whole."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count and count % (1 << shift) == 0:
            return f"{count >> shift} {unit}"
    return f"{count:,} bytes"


def _whoever(setting: str) -> str:
    return f"whoever runs the server can change that with SLIPWAY_{setting.upper()}"
