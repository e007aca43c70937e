"""Renames that outlive a power cut: a name is on the disk when its folder has been synchronised (fsync(2))."""

from __future__ import annotations

import os
from pathlib import Path


def synchronise(folder: Path) -> None:
    """Return when the names in `folder` are on the disk. What the files hold has to be there before.

    Journalling file systems (ext4, XFS) write what was renamed earlier, in other folders too, before it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
