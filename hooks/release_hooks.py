"""The hooks of `.aptible.yml` around one operation: which ones run when, and what their end means.

Those before a deploy decide over it. Those after an operation change nothing of its outcome, whatever becomes of them.
"""

from __future__ import annotations

import threading
from typing import Literal

from hooks.log import OperationLog
from releaser import aptible_yml
from releaser.release import Release
from releaser.releaser import Releaser
from store.errors import SlipwayError
from store.operations import Type

HOOK_SECONDS = 30 * 60.0
"""Time limit of each command, as on Aptible."""

_EVENT: dict[Type, str] = {
    "deploy": "deploy",
    "rebuild": "deploy",
    "rollback": "deploy",
    "restart": "restart",
    "configure": "configure",
    "scale": "scale",
}
"""What the hooks' names call an operation."""


class HookFailedError(SlipwayError):
    """A command that has to succeed before the release did not. The former release was not touched."""


class ReleaseHooks:
    """The hooks that one file asks for. Raises AptibleYmlError for a file that does not say."""

    def __init__(self, releaser: Releaser, text: str | None, log: OperationLog, cancelled: threading.Event) -> None:
        self._hooks = aptible_yml.parse(text)
        self._releaser = releaser
        self._log = log
        self._cancelled = cancelled

    def before_deploy(self, release: Release) -> None:
        """Run what must succeed before `release` may come up. Raises HookFailedError, or CancelledError."""
        for line in self._hooks.before_deploy:
            status = self._run(release, "before_deploy", line)
            if status != 0:
                raise HookFailedError(
                    f"the before_deploy command {line[:80]!r} exited with status {status}; nothing was released, so "
                    "mend it and deploy again"
                )

    def of(self, kind: Type, outcome: Literal["success", "failure"]) -> tuple[str, ...]:
        """Return the commands to run after an operation of that kind has ended so."""
        return self._hooks.after.get(self._name(kind, outcome), ())

    def after(self, kind: Type, outcome: Literal["success", "failure"], release: Release) -> None:
        """Run what comes after an operation, with image and config of `release`. What fails is only told."""
        name = self._name(kind, outcome)
        for line in self.of(kind, outcome):
            try:
                status = self._run(release, name, line)
            except SlipwayError as error:
                self._log.line(f"Warning: {name} did not run to its end: {error}")
                return
            if status != 0:
                self._log.line(f"Warning: the {name} command {line[:80]!r} exited with status {status}")

    @staticmethod
    def _name(kind: Type, outcome: str) -> str:
        return f"after_{_EVENT[kind]}_{outcome}"

    def _run(self, release: Release, name: str, line: str) -> int:
        with self._log.step(f"Running {name}: {line}"):
            output = _LineEnd(self._log)
            status = self._releaser.run_line(
                release, name, line, write=output.write, cancelled=self._cancelled, seconds=HOOK_SECONDS
            )
            output.end()
        return status


class _LineEnd:
    """Passes text on to the log, and sees to it that the last line has an end."""

    def __init__(self, log: OperationLog) -> None:
        self._log = log
        self._open = False

    def write(self, text: str) -> None:
        self._open = not text.endswith("\n")
        self._log.write(text)

    def end(self) -> None:
        if self._open:
            self._log.write("\n")
