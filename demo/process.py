"""A program in the background: started with a log of its own, awaited by what it says, stopped by its process id."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from store.errors import SlipwayError

_LINES_SHOWN = 8
"""How much of a failed program's log an error quotes: enough for the reason, short enough to be read."""


class ProgramError(SlipwayError):
    """A program that was started did not do what it was started for. It has been stopped."""


class Process:
    """A running program; as a context manager it is stopped on the way out.

    It is in a session of its own, so that Ctrl-C on a terminal reaches only whoever started it, who then stops things
    in their order. Should the starter be killed outright, the kernel sends the program SIGTERM (PR_SET_PDEATHSIG,
    prctl(2)), so that nothing stays behind; the same happens when the thread ends that started it.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        descriptors: Collection[int] = (),
    ) -> None:
        """Start `words`; both output streams are appended to `log`. Raises ProgramError if there is no such program.

        `descriptors` are open ones that the program gets under the same numbers.
        """
        self.name = Path(words[0]).name
        self.log = log
        self._offset = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            try:
                self._child = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", "--", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd=folder,
                    start_new_session=True,
                    pass_fds=descriptors,
                )
            except FileNotFoundError as error:
                raise ProgramError("setpriv is missing; install the package util-linux") from error
        self.pid = self._child.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for the signal that ended it, or None while it runs."""
        return self._child.poll()

    def output(self) -> str:
        """Return what the program has said so far."""
        with self.log.open("rb") as log:
            log.seek(self._offset)
            return log.read().decode(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """Wait until the output matches `pattern` (re.MULTILINE) and return the match.

        Raises ProgramError when the program ends first, or `seconds` pass; it has been stopped then.
        """
        deadline = time.monotonic() + seconds
        while True:
            ended = self.exit_status is not None
            # Read after asking whether it ended, so that its last words are not missed.
            if match := re.search(pattern, self.output(), re.MULTILINE):
                return match
            if ended:
                raise self._failure(f"ended with exit status {self.exit_status}")
            if time.monotonic() > deadline:
                self.stop()
                raise self._failure(f"was not ready after {seconds:g} seconds")
            time.sleep(0.02)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait until the program ends by itself and return its exit status.

        Raises ProgramError when that takes longer than `seconds`; it has been stopped then.
        """
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise self._failure(f"did not end within {seconds:g} seconds") from None

    def stop(self, seconds: float = 60.0) -> int:
        """Ask the program to end (SIGTERM), insist after `seconds` (SIGKILL), and return its exit status."""
        self._child.terminate()
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End the program without a chance to tidy up (SIGKILL) and return its exit status."""
        self._child.kill()
        return self._child.wait()

    def _failure(self, what: str) -> ProgramError:
        last = "\n".join(self.output().splitlines()[-_LINES_SHOWN:])
        return ProgramError(f"{self.name} {what}; the end of its log, {self.log}:\n{last}")
