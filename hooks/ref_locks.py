"""Lock files of refs whose holder was killed (gitrepository-layout(5), "lockfile protocol" of Git's lockfile.h).

A lock file does not say who holds it, and does not go away with its holder. A ref is locked for milliseconds, though,
so one that has been locked for a minute is locked by nobody.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import structlog

ABANDONED_SECONDS = 60.0
"""`git pack-refs` holds its lock the longest: well below a second for 10,000 refs."""

log = structlog.get_logger()


def remove_abandoned(path: Path) -> bool:
    """Remove the lock file of `path` if nobody can hold it any more; return whether it was so."""
    lock = path.with_name(f"{path.name}.lock")
    with suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > ABANDONED_SECONDS:
            lock.unlink()
            log.warning("an abandoned lock was removed", path=str(lock))
            return True
    return False
