"""How the engine room stays small although it runs for months."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""mallopt(3), as malloc.h numbers them."""

LARGE_BYTES = 128 << 10
"""Allocations from this size on go back to the system as soon as they are freed: glibc's own value at the start."""

ARENAS = 2
"""Heaps for threads, of which Python lets one run at a time."""


def give_back() -> None:
    """Let the C library give memory back that was needed for a moment only; without glibc, do nothing.

    By itself it takes the largest block that was ever freed for the usual one, up to 32 MiB, and keeps as much for the
    next one (mallopt(3), "M_MMAP_THRESHOLD"): after one login, what a password's hash takes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
    mallopt(_M_ARENA_MAX, ARENAS)


def started() -> None:
    """Take what there is now for what stays, so that Python looks for garbage in the rest alone.

    It puts a full collection off until a quarter has been added to what survived the last one (Python's gc module),
    which otherwise is all that was imported. Until then the buffers of connections that are gone are kept: asyncio
    leaves them in cycles. And each full collection would stop every answer for as long as it takes to see all.
    """
    gc.collect()
    gc.freeze()
