"""How long a session waits for its client, set off against what the client moves.

Neither a client that falls silent nor one that sends a byte now and then may hold a session for good, while one whose
deploy takes half an hour, or whose line is slow, does nothing wrong. So only the time counts in which the session can
do nothing but wait for the client, and every byte that goes through buys some of it back.
"""

from __future__ import annotations

LEAST_BYTES_PER_SECOND = 512
"""Slower than this is as good as silent; no modem ever was."""


class Patience:
    """The account of one session: `seconds` of waiting, looked at from time to time. Times are in seconds."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = self._left = seconds
        self._looked_at = now
        self._moved = 0

    def exhausted(self, now: float, *, waiting: bool, moved: int) -> bool:
        """Return whether the session has waited long enough.

        `waiting` says whether it waits for the client at `now`, and then counts for the time since the last look;
        `moved` is how many bytes have come and gone since the session began.
        """
        if waiting:
            self._left -= now - self._looked_at
        self._left = min(self._seconds, self._left + (moved - self._moved) / LEAST_BYTES_PER_SECOND)
        self._looked_at, self._moved = now, moved
        return waiting and self._left < 0
