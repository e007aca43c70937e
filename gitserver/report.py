"""The last thing that receive-pack says: what became of the pack and of each ref."""

from __future__ import annotations

from collections.abc import Mapping

from dulwich.protocol import pkt_line


def report(unpack: str | None, results: Mapping[str, str | None]) -> bytes:
    """Return a push's report (gitprotocol-pack(5), "Report Status"), pkt-lines and flush.

    `unpack` and the values of `results`, which has one per ref, are None for success and else the reason. The same text
    serves report-status and report-status-v2, whose option lines are for refs that were rewritten; here none is.
    """
    lines = [f"unpack {_one_line(unpack) if unpack else 'ok'}"]
    lines += [f"ng {ref} {_one_line(reason)}" if reason else f"ok {ref}" for ref, reason in results.items()]
    return b"".join(pkt_line(line.encode() + b"\n") for line in lines) + pkt_line(None)


def _one_line(reason: str) -> str:
    # A pkt-line holds one line of at most 65,516 bytes, and the client shows it in parentheses.
    return " ".join(reason.split())[:500] or "refused"
