"""Small work that comes up again and again while the server runs, and that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

log = structlog.get_logger()

PERIOD_SECONDS = 5.0


def keep_house(chores: Sequence[Callable[[], None]], stopping: threading.Event) -> None:
    """Do every chore now and again until `stopping` is set, and once more then. A chore that fails is tried again."""
    while True:
        last = stopping.wait(PERIOD_SECONDS)
        for chore in chores:
            try:
                chore()
            except Exception as error:
                # A full disk, most likely. The error's words may hold a statement's values.
                log.warning(
                    "housekeeping failed", chore=getattr(chore, "__qualname__", "?"), error=type(error).__name__
                )
        if last:
            return
