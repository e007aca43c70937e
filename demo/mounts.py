"""What is mounted where (proc_pid_mountinfo(5)), and folders that may have mounts in them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Mount:
    point: Path
    filesystem: str


def filesystem(folder: Path) -> str:
    """Return the type of the filesystem that an existing folder is on, such as `ext4` or `overlay`."""
    real = folder.resolve()
    # Later mounts cover earlier ones at the same place.
    return max(
        enumerate(_mounts()),
        key=lambda numbered: (real.is_relative_to(numbered[1].point), len(numbered[1].point.parts), numbered[0]),
    )[1].filesystem


def remove_folder(folder: Path) -> None:
    """Unmount whatever is mounted in `folder`, then delete it.

    Raises OSError, and deletes nothing, while something stays mounted: its files may be somebody else's.
    """
    real = folder.resolve()
    for mount in reversed(_within(real)):
        subprocess.run(["umount", str(mount.point)], capture_output=True, check=False)
    if left := _within(real):
        raise OSError(f"{left[0].point} is still mounted, so {folder} was not deleted; unmount it, then delete it")
    shutil.rmtree(real)


def _within(folder: Path) -> list[_Mount]:
    return [mount for mount in _mounts() if mount.point.is_relative_to(folder)]


def _mounts() -> list[_Mount]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        # Spaces and backslashes are written in octal.
        point = fields.split()[4].encode().decode("unicode_escape").encode("latin-1").decode()
        found.append(_Mount(Path(point), rest.split()[0]))
    return found
