"""A build step that goes on until the test lets it end, however slow the machine is."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path

FOUND_SECONDS = 60
"""How long the step may take from what it prints to its waiting."""


class Gate:
    """A step of a Dockerfile that says `busy now` and waits for `open`.

    The engine is on this machine, so the waiting process is one of this machine's, and ended by its id.
    """

    def __init__(self) -> None:
        # Ten minutes, so that no build hangs for good should a test fail; the fraction tells this gate from others.
        self._waiting = ["sleep", f"600.{secrets.randbelow(10**9):09}"]

    @property
    def step(self) -> str:
        """The line of the Dockerfile."""
        return f"RUN echo busy now && ({' '.join(self._waiting)} || true)"

    def open(self) -> None:
        """Let the step end, and the build go on."""
        deadline = time.monotonic() + FOUND_SECONDS
        while not (pids := self._pids()):
            assert time.monotonic() < deadline, "the build does not wait at its gate"
            time.sleep(0.02)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)

    def _pids(self) -> list[int]:
        command_line = b"".join(word.encode() + b"\0" for word in self._waiting)
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _command_line(folder) == command_line]


def _command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""  # it ended meanwhile
