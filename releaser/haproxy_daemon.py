"""The HAProxy of one folder, as the server deals with it: started as a daemon, checked, found again, ended."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from releaser import haproxy_process
from releaser.haproxy_config import MASTER_SOCKET
from releaser.haproxy_master import Master, ProxyUnreachableError
from releaser.haproxy_process import ENVIRONMENT, kept
from store.errors import SlipwayError

TRANSITION_SECONDS = 10.0
"""How long a start, a reload or a stop may take; they take about 50 ms."""

POLL_SECONDS = 0.01

PROXY_USER = "haproxy"
"""The user that Debian's package makes for it."""


class ProxyFailedError(SlipwayError):
    """HAProxy does not start, or does not take its configuration."""


class Daemon:
    """The HAProxy of one folder. `program` is its name or path."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._program = program
        self._master = Master(folder / MASTER_SOCKET)

    def alive(self) -> int | None:
        """Return the master's process id, None if it does not run; see `haproxy_process.alive`."""
        return haproxy_process.alive(self._program, self._folder)

    @property
    def running(self) -> bool:
        """Whether it runs: the process that we have started, or whatever its keeper has."""
        if kept(self._folder):
            return self._master.listens()  # its process may be in another container, where we see none
        return self.alive() is not None

    def launch(self) -> None:
        """Start the daemon with its configuration file, or wait until its keeper has. Raises ProxyFailedError.

        Raises ProxyMissingError where there is no HAProxy.
        """
        if kept(self._folder):
            # Its keeper starts it on seeing the configuration, which has just been written, or on the one before.
            if not until(self._has_workers):
                raise ProxyFailedError(f"`slipway proxy` does not get HAProxy started in {self._folder}; see its log")
            return
        started = _run(haproxy_process.words(self._program, self._folder, daemon=True))
        if started.returncode != 0:
            raise ProxyFailedError(f"HAProxy does not start: {_alerts(started.stderr)}")
        # The process that was started ends when the listeners are bound; the pid file comes a moment later.
        if not until(lambda: self.alive() is not None):
            raise ProxyFailedError(f"HAProxy started, but does not answer in {self._folder}; look at its process there")

    def _has_workers(self) -> bool:
        try:
            return bool(self._master.workers())
        except ProxyUnreachableError:
            return False

    def complaint(self) -> str | None:
        """Return what HAProxy has against its configuration file, None if nothing. Raises ProxyMissingError."""
        checked = _run(haproxy_process.checking_words(self._program, self._folder))
        return _alerts(checked.stderr) if checked.returncode != 0 else None

    def end(self) -> None:
        """End the daemon with all its connections, if it runs and no keeper would only start it again."""
        master = self.alive()
        if master is None or kept(self._folder):
            return
        os.kill(master, signal.SIGTERM)
        if not until(lambda: self.alive() is None):
            os.kill(master, signal.SIGKILL)

    def end_strays(self) -> None:
        """Kill every HAProxy that works in this folder: to be called while there is no master that is known.

        One whose pid file was lost would hold the ports for ever, and nobody could tell it anything. Where there is a
        keeper it knows its child, and may just be starting it.
        """
        if kept(self._folder):
            return
        for process in Path("/proc").glob("[0-9]*"):
            if haproxy_process.works_in(self._program, self._folder, process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)


def until(condition: Callable[[], bool], seconds: float = TRANSITION_SECONDS) -> bool:
    """Wait until a condition holds, `seconds` at most, and return whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def unprivileged_user() -> str | None:
    """Return the user that HAProxy's workers become, None where they stay what this process is."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(PROXY_USER).pw_name
    except KeyError:
        return None


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def _alerts(output: str) -> str:
    """Return what HAProxy complains about, without its time stamps and process ids."""
    alerts = [line.partition(" : ")[2] for line in output.splitlines() if line.startswith("[ALERT]")]
    return "; ".join(alerts) or "it gave no reason"
