"""What goes on while a story does: commands in the background, and waiting for what is under way."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from demo.person import Person
from tests.world.working_copy import Repo


class Background:
    """A command of somebody's that goes on while the story does."""

    def __init__(self, person: Person, *words: str, folder: Path | None = None) -> None:
        self._process = subprocess.Popen(
            words,
            cwd=folder or person.home,
            env=dict(person.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._said = ""
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._grown:
                self._said += line
                self._grown.notify_all()

    def wait_for(self, text: str) -> None:
        """Return once it has shown `text`."""
        with self._grown:
            assert self._grown.wait_for(lambda: text in self._said, timeout=60), self._said

    def interrupt(self) -> None:
        """Type ^C: the whole foreground process group gets it."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and all that was said."""
        status = self._process.wait(timeout=120)
        self._reader.join()
        return status, self._said


class BackgroundPush(Background):
    """A `git push` in the background."""

    def __init__(self, copy: Repo, *words: str) -> None:
        super().__init__(copy.person, "git", "push", "aptible", *(words or ("master",)), folder=copy.folder)


def eventually(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something that is under way has happened."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
