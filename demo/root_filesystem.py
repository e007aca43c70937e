"""A root filesystem for an image, put together from files of this machine and written as a tar archive."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections import deque
from collections.abc import Collection, Iterable
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the distribution keeps its programs; a person's own PATH may put others in front, such as pyenv's."""

_LOADED_BY_NAME = ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")
"""Libraries that the C library opens while it runs, so that ldd(1) does not show them."""

_FOLDERS = {"dev": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755, "tmp": 0o1777, "var/tmp": 0o1777}


class RootFilesystem:
    """Paths of this machine that an image has under the same names, with every folder and link on the way to them.

    So a merged /usr (`/lib` being a link to `usr/lib`) and Debian's alternatives come out as they are here.
    """

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def add(self, paths: Iterable[Path]) -> None:
        """Take files, folders (themselves, not what is in them) and links; what does not exist is passed over."""
        for path in paths:
            if path.exists():
                self._add(path)

    def add_tree(self, folder: Path, without: Collection[str] = ()) -> None:
        """Take everything in `folder`, if there is one, except subfolders of the names in `without`."""
        for here, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name not in without]
            self.add(Path(here, name) for name in names)

    def add_programs(self, programs: Collection[Path]) -> None:
        """Take programs, or modules of a program, with the shared libraries that they need."""
        self.add(programs)
        libraries = _shared_libraries(programs)
        self.add(libraries)
        self.add(folder / name for folder in {path.resolve().parent for path in libraries} for name in _LOADED_BY_NAME)

    def write(self, archive: Path, texts: dict[str, str]) -> None:
        """Write the archive. `texts` are further files by name, and the folders that every system has come along."""
        with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
            for name, mode in _FOLDERS.items():
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, mode
                tar.addfile(folder)
            for path in sorted(self._paths):
                if str(path)[1:] not in _FOLDERS:
                    _write_path(tar, path)
            for name, text in texts.items():
                file = tarfile.TarInfo(name)
                file.size = len(text.encode())
                tar.addfile(file, io.BytesIO(text.encode()))

    def _add(self, path: Path) -> None:
        """Walk along an absolute path that exists as the kernel does, and take whatever is met."""
        here = Path("/")
        parts = deque(path.parts[1:])
        while parts:
            part = parts.popleft()
            if part == "..":
                here = here.parent
                continue
            there = here / part
            self._paths.add(there)
            if not there.is_symlink():
                here = there
                continue
            target = there.readlink()
            if target.is_absolute():
                here = Path("/")
            parts.extendleft(part for part in reversed(target.parts) if part != "/")


def _write_path(tar: tarfile.TarFile, path: Path) -> None:
    info = tar.gettarinfo(path)
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    if not info.issym():
        info.mode &= 0o755  # no set-user-id program, and nothing that a group may write
    if info.isreg():
        with path.open("rb") as content:
            tar.addfile(info, content)
    else:
        tar.addfile(info)


def _shared_libraries(programs: Collection[Path]) -> list[Path]:
    """Return the shared libraries that the binaries among `programs` are linked to, as ldd(1) sees them."""
    # ldd takes scripts and static programs for errors, so its exit status says nothing.
    answer = subprocess.run(
        ["ldd", *programs], capture_output=True, text=True, check=False, env={"PATH": SYSTEM_PATH, "LC_ALL": "C"}
    )
    return sorted({Path(path) for path in re.findall(r"(/\S+) \(0x[0-9a-f]+\)$", answer.stdout, re.MULTILINE)})
