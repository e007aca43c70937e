"""Operations from their opening to their end, whoever asked for them.

An operation is a record before it is an action: `open` returns when the record is on disk, and what happens then no
longer depends on who asked. At the start of the engine room `hooks.recovery` ends what a crash left behind.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial

import structlog
from structlog.contextvars import bound_contextvars

from hooks import metrics
from hooks.addresses import Addresses
from hooks.collection import Collector
from hooks.deprovision import deprovision
from hooks.endings import Endings
from hooks.keeping import DEFAULT_POLICY, Policy
from hooks.log import Logs, OperationLog
from hooks.pipeline import Pipeline
from hooks.queue import Job, Queue
from hooks.recovery import recover
from hooks.request import Request
from hooks.steps import Steps
from hooks.upkeep import Upkeep
from releaser.releaser import Releaser
from store import apps, operations
from store.apps import App
from store.database import Store
from store.errors import CancelledError, SlipwayError
from store.operations import Operation, Status
from store.reserve import DiskFullError, Reserve, is_full

log = structlog.get_logger()


class NotCancellableError(SlipwayError):
    """The operation is over."""


class StoppingError(SlipwayError):
    """The server takes no more operations."""


class Operations:
    """The engine room's desk: opens, queues, runs, cancels and recovers operations."""

    def __init__(
        self,
        store: Store,
        logs: Logs,
        pipeline: Pipeline,
        releaser: Releaser,
        addresses: Addresses,
        limit: int,
        reserve: Reserve,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self._store = store
        self.logs = logs
        self._pipeline = pipeline
        self._releaser = releaser
        self._addresses = addresses
        self._queue = Queue(limit)
        self._reserve = reserve
        self._endings = Endings(store, logs, pipeline.repository, reserve)
        self.collector = Collector(store, self._queue, pipeline.engine, policy)
        # Numbers are given and queued in one order, so that the order of arrival is the order of the numbers.
        self._opening = threading.Lock()
        self.upkeep = Upkeep(store, self._queue, pipeline, releaser, self.open)

    def open(self, app: App, user_id: int | None, request: Request) -> Operation:
        """Record an operation and queue it. Its log is there to be followed when this returns.

        Raises StoppingError while the server stops, NoSuchAppError for an app that was deprovisioned meanwhile,
        DiskFullError.
        """
        with self._opening:
            if self._queue.stopping:
                raise StoppingError("the server is stopping; try again in a moment")
            self._reserve.hold()
            with self._store.write() as connection:
                apps.require(connection, app.id)
                operation = operations.add(connection, self._store.seal, app, user_id, request.type, request.dump())
            try:
                step = Steps(operation)
                if request.commit:
                    with step("hold"):
                        self._pipeline.repository(app.id).hold("operations", operation.id, request.commit)
                with step("introduce"):
                    operation_log = self.logs.open(operation.id)
                    self._introduce(operation, request, operation_log)
                self._enqueue(operation, request)
            except Exception as error:
                self._endings.end(operation, "failed", "the server could not begin it")
                if is_full(error):
                    raise DiskFullError from error
                raise
        return operation

    def _introduce(self, operation: Operation, request: Request, operation_log: OperationLog) -> None:
        what = f"Operation {operation.id}: {operation.type} of {operation.app}"
        if request.commit:
            what += f", commit {request.commit}"
        if request.push:
            what += f" of {request.push.ref.removeprefix('refs/heads/')}"
        operation_log.line(what)
        # Public, since a config value may happen to be part of the host's name.
        for verb in ("follow", "cancel"):
            command = self._addresses.command(f"operation:{verb} {operation.id}")
            operation_log.line(f"  {verb}: {command}", public=True)

    def _enqueue(self, operation: Operation, request: Request) -> None:
        branch = request.push.ref if request.push else None
        operation_log = self.logs.opened(operation.id)
        job = Job(operation.id, operation.app_id, partial(self._run, operation, operation_log), branch=branch)
        for number in self._queue.overtake(job):
            with self._store.read() as connection:
                overtaken = operations.by_id(connection, number)
            self._endings.end(
                overtaken,
                "cancelled",
                f"superseded by operation {operation.id}, a newer push to {branch} by {operation.user}",
            )
        ahead = self._queue.add(job)
        if ahead is not None:
            with self._store.read() as connection:
                other = operations.by_id(connection, ahead.number)
            operation_log.line(
                f"Waiting for operation {other.id} ({other.type} of {other.app} by {other.user}) to finish."
            )

    def _run(self, operation: Operation, operation_log: OperationLog, cancelled: threading.Event) -> None:
        """Run an operation on this thread, so that whatever is logged on it, in any room, carries the number."""
        with (
            bound_contextvars(operation=operation.id, app=operation.app),
            metrics.OPERATION_SECONDS.labels(operation.type).time(),
        ):
            self._work(operation, operation_log, cancelled)

    def _work(self, operation: Operation, operation_log: OperationLog, cancelled: threading.Event) -> None:
        events = log.bind(type=operation.type)
        step = Steps(operation)
        status: Status = "failed"
        try:
            with step("begin"), self._store.write() as connection:
                operations.start(connection, operation)
            events.info("operation started", user=operation.user)
            self._do(operation, operation_log, cancelled, step)
            events.info("operation succeeded")
        except CancelledError:
            status, error = "cancelled", f"operation {operation.id} was cancelled; nothing was changed"
        except SlipwayError as failure:
            # It goes into the records and into the push's report as well, and may quote what an app has printed.
            error = operation_log.redacted(_one_line(str(failure)))
        except Exception as failure:
            if is_full(failure):
                error = str(DiskFullError())
            else:
                events.exception("operation met a defect")
                error = f"the server met a defect of its own; its log tells more under operation {operation.id}"
        else:
            self._endings.let_go(operation)
            if operation.type != "deprovision":
                # After the end that people wait for, and before the app's next operation.
                self.collector.after(operation.app_id)
            return
        with self._store.read() as connection:
            over = operations.by_id(connection, operation.id).finished
        if over:
            # Released, and only then did something fail: the release stands, the next start clears what is left.
            events.warning("clearing up after a release failed", error=error)
            self._endings.let_go(operation)
        else:
            events.info("operation ended", status=status, error=error)
            self._endings.end(operation, status, error)

    def _do(self, operation: Operation, operation_log: OperationLog, cancelled: threading.Event, step: Steps) -> None:
        if operation.type != "deprovision":
            with self._store.read() as connection:
                apps.require(connection, operation.app_id)
            self._pipeline.run(operation, operation_log, cancelled, step)
        elif cancelled.is_set():
            raise CancelledError("cancelled before it began")
        else:
            deprovision(
                operation,
                operation_log,
                step,
                store=self._store,
                releaser=self._releaser,
                repository=self._pipeline.repository(operation.app_id),
                engine=self._pipeline.engine,
            )

    def cancel(self, operation: Operation) -> None:
        """End an operation that waits, or ask one that runs to stop; it then ends as cancelled, or just succeeded.

        Raises NotCancellableError for one that is over.
        """
        if self._queue.withdraw(operation.id):
            self._endings.end(operation, "cancelled", f"operation {operation.id} was cancelled before it began")
        # One whose containers are still being cleared away runs, but is over for whoever asked for it.
        elif operation.finished or not self._queue.cancel(operation.id):
            raise NotCancellableError(f"operation {operation.id} is over already; `operations` shows how it ended")

    def drain(self, seconds: float, cancel_seconds: float) -> None:
        """Start nothing more, let what runs finish for so long, then cancel it. What waits is run by the next start."""
        self._endings.stop()
        if not self._queue.drain(seconds):
            self._queue.cancel_all()
            self._queue.drain(cancel_seconds)
        for number in self._queue.waiting():
            if operation_log := self.logs.live(number):
                operation_log.line(f"The server is stopping; operation {number} runs when it is back.")
            self.logs.close(number)

    def recover(self) -> None:
        """Bring records and branches into agreement after a stop of any kind, and queue again what waited.

        To be called once, before anything else.
        """
        recover(self._store, self._endings, self._pipeline.repository, self._enqueue)
        with suppress(DiskFullError):  # then it is said to whoever asks for an operation
            self._reserve.hold()

    @property
    def queued(self) -> int:
        """How many operations wait."""
        return len(self._queue.waiting())

    @property
    def running(self) -> int:
        """How many operations run."""
        return self._queue.running

    @property
    def stopping(self) -> bool:
        """Whether no more operations are taken."""
        return self._queue.stopping


def _one_line(text: str) -> str:
    """Return a message as the report of a push can carry it (gitprotocol-pack(5): a status is one pkt-line)."""
    return " ".join(text.split())
