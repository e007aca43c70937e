"""The last thing that receive-pack says: what became of the pack and of each ref."""

from __future__ import annotations

from collections.abc import Mapping

from dulwich.protocol import pkt_line

from hooks.pre_receive import ZERO, RefUpdate


def report(
    unpack: str | None, results: Mapping[str, str | None], elsewhere: Mapping[str, RefUpdate] | None = None
) -> bytes:
    """Return a push's report (gitprotocol-pack(5), "Report Status"), pkt-lines and flush.

    `unpack` and the values of `results`, which has one per ref, are None for success and else the reason. `elsewhere`
    has what was done in place of some updates, for clients that understand report-status-v2: they then do not take the
    ref that they named for moved. For all others the two reports are the same.
    """
    lines = [f"unpack {_one_line(unpack) if unpack else 'ok'}"]
    for ref, reason in results.items():
        lines.append(f"ng {ref} {_one_line(reason)}" if reason else f"ok {ref}")
        if not reason and elsewhere and (instead := elsewhere.get(ref)):
            lines += [f"option refname {instead.ref}", f"option old-oid {instead.old}", f"option new-oid {instead.new}"]
            # It need not contain what was there before, and need not be new.
            lines += ["option forced-update"] if instead.old not in (ZERO, instead.new) else []
    return b"".join(pkt_line(line.encode() + b"\n") for line in lines) + pkt_line(None)


def _one_line(reason: str) -> str:
    # A pkt-line holds one line of at most 65,516 bytes, and the client shows it in parentheses.
    return " ".join(reason.split())[:500] or "refused"
