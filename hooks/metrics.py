"""What is measured of operations, for Prometheus (prometheus.io, "Metric types").

Labels are of few values, and none is the name of an app or a user: who may read the metrics need not know either.
Counts begin at 0 with the engine room's process, as Prometheus expects of a counter.
"""

from __future__ import annotations

from typing import get_args

from prometheus_client import Counter, Histogram

from hooks.steps import Step
from store.operations import UNFINISHED, Operation, Status, Type

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Buckets, from a cached build up to the time limit of one."""

OPERATIONS = Counter("slipway_operations", "Operations that have ended, by kind and result.", ("kind", "result"))
OPERATION_SECONDS = Histogram(
    "slipway_operation_duration_seconds",
    "How long operations took, from when they began to run.",
    ("kind",),
    buckets=SECONDS,
)
WAITING_SECONDS = Histogram(
    "slipway_operation_waiting_seconds", "How long operations waited in the queue before they ran.", buckets=SECONDS
)
STEP_SECONDS = Histogram(
    "slipway_step_duration_seconds",
    "How long the steps of operations took; see hooks/steps.py.",
    ("step",),
    buckets=(0.005, 0.025, *SECONDS),
)
LOG_BYTES = Counter("slipway_operation_log_bytes", "Bytes written to the logs of operations.")

for _kind in get_args(Type):
    OPERATION_SECONDS.labels(_kind)
    for _result in set(get_args(Status)) - set(UNFINISHED):
        # There from the start: a rate needs a value from before the first one.
        OPERATIONS.labels(_kind, _result)


class StepDurations:
    """Measures every step (hooks.steps.Observer)."""

    def began(self, step: Step) -> None:
        """Wait for its end."""

    def ended(self, step: Step, seconds: float) -> None:
        """Take its time."""
        STEP_SECONDS.labels(step.name).observe(seconds)


def ended(operation: Operation) -> None:
    """Count an operation, by the record of how it ended."""
    OPERATIONS.labels(operation.type, operation.status).inc()
    if operation.started_at is not None:
        WAITING_SECONDS.observe((operation.started_at - operation.created_at).total_seconds())
