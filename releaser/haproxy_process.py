"""HAProxy as a process: how it is started, and how the one that works in a folder is found again."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from releaser.haproxy_config import MASTER_SOCKET
from store.errors import SlipwayError

CONFIG_FILE = "haproxy.cfg"
PID_FILE = "haproxy.pid"
KEEPER_LOCK = "keeper.lock"

SYSTEM_PROGRAMS = "/usr/local/sbin:/usr/sbin"
"""Where Debian puts it, which is not in everybody's PATH."""

COMM_LENGTH = 15
"""Characters of a program's name that the kernel keeps (proc(5), /proc/PID/comm)."""

LOCK_ATTEMPTS, LOCK_SECONDS = 10, 0.1
"""How often a keeper tries for its lock: `kept` holds it for an instant, too."""

ENVIRONMENT = {"PATH": os.defpath}
"""It outlives the server, and has no business with the server's environment."""


class ProxyMissingError(SlipwayError):
    """HAProxy is not installed."""


class KeptAlreadyError(SlipwayError):
    """Another process keeps the proxy of this folder."""


def words(program: str, folder: Path, *, daemon: bool) -> list[str]:
    """Return how HAProxy is started on a folder. Raises ProxyMissingError."""
    mode = ["-W", "-D"] if daemon else ["-W"]
    return [*_on(program, folder), *mode, "-p", PID_FILE, "-S", f"unix@{MASTER_SOCKET},mode,600"]


def checking_words(program: str, folder: Path) -> list[str]:
    """Return how HAProxy is asked whether it takes a folder's configuration. Raises ProxyMissingError."""
    return [*_on(program, folder), "-c"]


def _on(program: str, folder: Path) -> list[str]:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PROGRAMS}")
    if path is None:
        raise ProxyMissingError(
            "HAProxy is not installed; install the package 'haproxy' (Debian, Ubuntu: apt-get), "
            "or do without host names and with a pause at each release: SLIPWAY_ROUTER=none"
        )
    return [path, "-C", str(folder), "-f", CONFIG_FILE]


def alive(program: str, folder: Path) -> int | None:
    """Return the master's process id, if the process of that id is really this folder's proxy.

    It is a haproxy that works in this folder. Its arguments would say so too, but they are not there to read while the
    master executes itself anew, which it does at its start and at each reload.
    """
    try:
        master = int((folder / PID_FILE).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return master if works_in(program, folder, Path(f"/proc/{master}")) else None


def works_in(program: str, folder: Path, process: Path) -> bool:
    """Return whether a process, by its folder under /proc, is a HAProxy that works in a folder."""
    try:
        comm = process.joinpath("comm").read_text().rstrip("\n")
        return comm == Path(program).name[:COMM_LENGTH] and process.joinpath("cwd").samefile(folder)
    except OSError:  # it has ended, or is somebody else's
        return False


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Be the one who starts the proxy of a folder. Raises KeptAlreadyError."""
    with (folder / KEEPER_LOCK).open("w") as lock:
        attempts = LOCK_ATTEMPTS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                attempts -= 1
                if not attempts:
                    raise KeptAlreadyError(
                        f"another `slipway proxy` keeps the proxy in {folder}; stop it first"
                    ) from None
                time.sleep(LOCK_SECONDS)
            else:
                break
        yield


def kept(folder: Path) -> bool:
    """Return whether somebody keeps the proxy, so that nobody else need start it."""
    try:
        with (folder / KEEPER_LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
