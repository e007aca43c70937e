"""Whoever watches an operation's steps hears of each, in order, how it ended notwithstanding."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from hooks import steps
from hooks.steps import Step, Steps
from store.operations import Operation

OPERATION = Operation(7, 1, "shop", "alice", "deploy", "running", None, None, datetime.now(UTC), None, None)


class Recorder:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def began(self, step: Step) -> None:
        self.heard.append(("began", step.name))
        assert (step.operation, step.app, step.type) == (7, "shop", "deploy")

    def ended(self, step: Step, seconds: float) -> None:
        self.heard.append(("ended", step.name))
        assert seconds >= 0


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    steps.observers.append(recorder)
    yield recorder
    steps.observers.remove(recorder)


def test_steps_are_told_in_their_order_also_when_one_fails(recorder: Recorder) -> None:
    step = Steps(OPERATION)
    with step("build"):
        pass
    with pytest.raises(ValueError, match="broken"), step("health"):
        raise ValueError("broken")
    assert recorder.heard == [("began", "build"), ("ended", "build"), ("began", "health"), ("ended", "health")]
