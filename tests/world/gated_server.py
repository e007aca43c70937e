"""`slipway` with a gate at every boundary of an operation's steps: `python -m tests.world.gated_server GATES serve …`.

It is the real program, in whose engine room somebody watches the steps, as whoever measures them does. Each boundary is
written down, and where a test has asked for it, the operation stops there until the test lets it go on, or kills it.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from console import program
from hooks import steps
from hooks.steps import Step


@dataclass(frozen=True, order=True)
class Boundary:
    """Just before or just after a step of an operation of some type."""

    type: str
    side: str
    step: str

    def __str__(self) -> str:
        return f"{self.type} {self.side} {self.step}"


class Gates:
    """A folder over which a test and a server agree where apps' operations stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}
        """How much of what was written down has been read, by app."""

    # The server's side

    def began(self, step: Step) -> None:
        """Stop before a step if that is asked for."""
        self._pass(step.app, Boundary(step.type, "before", step.name))

    def ended(self, step: Step, seconds: float) -> None:
        """Stop after a step if that is asked for."""
        self._pass(step.app, Boundary(step.type, "after", step.name))

    def _pass(self, app: str, boundary: Boundary) -> None:
        with (self._folder / f"passed-{app}").open("a") as file:
            file.write(f"{boundary}\n")
        held = self._held(app, boundary)
        if held.exists():
            return  # it held a server that was killed there; the next one takes the step again to get ready
        while str(boundary) in self._closed(app):
            held.touch()
            time.sleep(0.02)

    def _closed(self, app: str) -> list[str]:
        try:
            return (self._folder / f"closed-{app}").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _held(self, app: str, boundary: Boundary) -> Path:
        return self._folder / f"held-{app}-{boundary}"

    # The test's side

    def close(self, app: str, *boundaries: Boundary) -> None:
        """Let an app's operations stop at these boundaries, and go on from any other; without any they just go on."""
        for path in self._folder.glob(f"held-{app}-*"):
            path.unlink()
        fresh = self._folder / f"closing-{app}"
        fresh.write_text("".join(f"{boundary}\n" for boundary in boundaries))
        fresh.rename(self._folder / f"closed-{app}")

    def holds(self, app: str, boundary: Boundary) -> bool:
        """Return whether an operation of the app stands at a boundary."""
        return self._held(app, boundary).exists()

    def passed(self, app: str) -> list[Boundary]:
        """Return the boundaries that an app's operations have come by, in their order, since this was asked last."""
        path = self._folder / f"passed-{app}"
        if not path.exists():
            return []
        with path.open() as file:
            file.seek(self._read.get(app, 0))
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read[app] = self._read.get(app, 0) + len(whole)
        return [Boundary(*line.split()) for line in whole.splitlines()]


def words(folder: Path) -> list[str]:
    """Return the words that serve with gates in `folder`."""
    return [sys.executable, "-m", "tests.world.gated_server", str(folder)]


if __name__ == "__main__":
    steps.observers.append(Gates(Path(sys.argv.pop(1))))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    program.main()
