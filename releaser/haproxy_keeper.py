"""Keeps the proxy running in a process of its own, where the server's end would otherwise be the proxy's.

In a container every process ends with the first one. So there the proxy has a container to itself, which shares the
data folder with the server's. The server goes on to write the configuration and to steer the proxy; its start and its
end are left to us.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType

import structlog

from releaser.haproxy_process import CONFIG_FILE, ENVIRONMENT, alive, keeping, words

LOOK_SECONDS = 0.1
"""How soon a first configuration, or the proxy's end, is noticed."""

AGAIN_SECONDS = 1.0
"""From the proxy's end to its next start: time for who ended it to take its configuration away, if it is to stay."""

PROGRAM = "haproxy"

log = structlog.get_logger()


class Keeper:
    """Keeps the proxy whose files are in `folder`, until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._stopping = False
        self._master: int | None = None
        self._not_before = 0.0

    def stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Make `run` end the proxy and return. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Keep it. Raises KeptAlreadyError or ProxyMissingError."""
        command = words(PROGRAM, self._folder, daemon=False)
        with keeping(self._folder):
            while not self._stopping:
                self._reap()
                if self._master is not None and not (self._folder / CONFIG_FILE).exists():
                    os.kill(self._master, signal.SIGTERM)
                if self._wanted():
                    log.info("starting the proxy")
                    self._master = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=ENVIRONMENT).pid
                time.sleep(LOOK_SECONDS)
            while self._master is not None:
                os.kill(self._master, signal.SIGTERM)
                time.sleep(LOOK_SECONDS)
                self._reap()

    def _wanted(self) -> bool:
        """Return whether the proxy is to be started; there may be one that the server started before we came."""
        return (
            self._master is None
            and time.monotonic() >= self._not_before
            and (self._folder / CONFIG_FILE).exists()
            and alive(PROGRAM, self._folder) is None
        )

    def _reap(self) -> None:
        """Take note of processes that have ended: the proxy, and, as the first process of a container, of anybody's."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process:
                return
            if process == self._master:
                log.warning("the proxy ended", status=os.waitstatus_to_exitcode(status))
                self._master = None
                self._not_before = time.monotonic() + AGAIN_SECONDS
