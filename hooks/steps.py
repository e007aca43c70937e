"""The steps that an operation consists of: where one begins and ends is where the records could be left half way.

Between two steps nothing lasting happens, and each changes one thing at most: a ref, a transaction of the records, the
containers of one kind, the route. So whoever wants to know what a crash can leave behind has to look at these
boundaries, and whoever wants to know what takes its time has to measure between them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from store.operations import Operation, Type

log = structlog.get_logger()


@dataclass(frozen=True)
class Step:
    """One step of one operation."""

    operation: int
    app: str
    type: Type
    name: str


class Observer(Protocol):
    """Is told of every step, on the thread that takes it. It must not raise."""

    def began(self, step: Step) -> None:
        """Take note that a step begins."""

    def ended(self, step: Step, seconds: float) -> None:
        """Take note that a step has ended, well or not."""


observers: list[Observer] = []
"""Whoever is told, in this process. To be added to before the first operation runs."""


class Steps:
    """Takes an operation's steps: `with steps("build"):`."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Tell the observers, and the server's log, of a step around the block."""
        operation = self._operation
        step = Step(operation.id, operation.app, operation.type, name)
        for observer in observers:
            observer.began(step)
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            log.info("step", operation=step.operation, app=step.app, step=name, seconds=round(seconds, 3))
            for observer in observers:
                observer.ended(step, seconds)
