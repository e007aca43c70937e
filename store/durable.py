"""Files and names that outlive a power cut.

A name is on the disk when its folder has been synchronised (fsync(2)).
"""

from __future__ import annotations

import os
from pathlib import Path


def synchronise(path: Path) -> None:
    """Return when what a file holds, or the names in a folder, are on the disk. A file's content has to be there first.

    Journalling file systems (ext4, XFS) write what was renamed earlier, in other folders too, before it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
