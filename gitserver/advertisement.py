"""The first thing that receive-pack says: which refs there are, and what it is capable of."""

from __future__ import annotations

from collections.abc import Sequence

from dulwich.objects import ObjectID
from dulwich.protocol import capability_agent, capability_object_format
from dulwich.refs import Ref

from hooks.pre_receive import ZERO

CAPABILITIES: tuple[bytes, ...] = (
    b"report-status",
    b"report-status-v2",
    b"delete-refs",
    b"side-band-64k",
    b"quiet",
    b"atomic",
    b"ofs-delta",
    b"push-options",
    capability_object_format("sha1"),
    capability_agent(),
)
"""What a client may ask of a push (gitprotocol-capabilities(5))."""


_LINE_BYTES = 46
"""Of a pkt-line, what is not the ref's name: its own length, the object id, a space and the line's end."""

FLUSH = b"0000"
"""The pkt-line that ends a list (gitprotocol-common(5))."""


def advertisement(refs: Sequence[tuple[Ref, ObjectID]]) -> bytes:
    """Return the reference discovery of a push (gitprotocol-pack(5), "Reference Discovery"), pkt-lines and flush.

    It is one string, so that it can go out in full SSH packets: one packet per ref would be slow with many.
    """
    (first, oid), *others = refs or [(Ref(b"capabilities^{}"), ObjectID(ZERO.encode()))]
    begin = b"%s %s\0%s\n" % (oid, first, b" ".join(CAPABILITIES))
    parts = [b"%04x" % (len(begin) + 4), begin]
    # Lengths are looked up, since there may be many thousands of refs, and formatting each takes twice as long.
    lengths = {length: b"%04x" % (length + _LINE_BYTES) for length in {len(name) for name, _ in others}}
    for name, oid in others:
        parts += (lengths[len(name)], oid, b" ", name, b"\n")
    return b"".join([*parts, FLUSH])
