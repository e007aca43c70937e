"""A file that holds some space of the data folder's disk, so that a full disk can still be told of.

It is given up when a write finds the disk full: then there is room to record that an operation failed, to write why
into its log, and to put its branches back. Nothing new is begun until the space can be held again.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from store.errors import SlipwayError

RESERVED_BYTES = 2 << 20
"""A failure takes some pages of the database's log, a line, a ref and the proxy's file: below 100 KiB. This is enough
for more operations than run at once."""


class DiskFullError(SlipwayError):
    """The disk that the data folder is on has no room left."""

    def __init__(self, what: str = "nothing was changed") -> None:
        super().__init__(f"the disk of the server's data folder is full, so {what}; tell whoever runs the server")


def is_full(error: BaseException) -> bool:
    """Return whether an error says that there is no room: on the disk, or in the server's quota of it."""
    return isinstance(error, DiskFullError) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    )


class Reserve:
    """The space that is held at `path`. It may be shared by threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Have the space held; raises DiskFullError if there is not as much."""
        with self._lock:
            if self._path.exists() and self._path.stat().st_size >= RESERVED_BYTES:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVED_BYTES)
            except OSError as error:
                self._path.unlink()
                raise DiskFullError("nothing new is begun") from error
            finally:
                os.close(descriptor)

    def spend(self) -> bool:
        """Give the space up to whoever needs it now; return whether there was any."""
        with self._lock:
            if not self._path.exists():
                return False
            self._path.unlink()
            return True
