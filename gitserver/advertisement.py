"""The first thing that receive-pack says: which refs there are, and what it is capable of."""

from __future__ import annotations

from collections.abc import Mapping

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


FLUSH = b"0000"
"""The pkt-line that ends a list (gitprotocol-common(5))."""


def advertisement(refs: Mapping[Ref, ObjectID]) -> bytes:
    """Return the reference discovery of a push (gitprotocol-pack(5), "Reference Discovery"), pkt-lines and flush.

    It is one string, so that it can go out in full SSH packets: one packet per ref would be slow with many.
    """
    (first, oid), *others = sorted(refs.items()) or [(Ref(b"capabilities^{}"), ObjectID(ZERO.encode()))]
    begin = b"%s %s\0%s\n" % (oid, first, b" ".join(CAPABILITIES))
    # Each with its length: four digits, id, space and line end. In one expression, for there may be many thousands.
    rest = b"".join([b"%04x%s %s\n" % (len(name) + 46, oid, name) for name, oid in others])
    return b"%04x%s%s%s" % (len(begin) + 4, begin, rest, FLUSH)
