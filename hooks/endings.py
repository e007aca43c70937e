"""How an operation ends that did not succeed: told in its log, its branches put back, recorded, its commit let go.

What succeeded was recorded at its commit point. Either way nobody waits for ever: on a full disk the reserve is given
up for this, and what still cannot be recorded is tried again until it can, or until the next start ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from hooks import metrics
from hooks.log import Logs
from hooks.repository import BareRepository
from hooks.steps import Steps
from store import operations
from store.database import Store
from store.operations import Operation, Status
from store.reserve import Reserve, is_full

log = structlog.get_logger()

RETRY_SECONDS = 1.0
"""Between attempts to record an end, while the disk is full and there is no reserve either."""


class Endings:
    """Ends operations. `repository` returns an app's repository by the app's record."""

    def __init__(self, store: Store, logs: Logs, repository: Callable[[int], BareRepository], reserve: Reserve) -> None:
        self._store = store
        self._logs = logs
        self._repository = repository
        self._reserve = reserve
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Leave to the next start what cannot be recorded now."""
        self._stopping.set()

    def end(self, operation: Operation, status: Status, error: str) -> None:
        """End an operation that did not come to its commit point, and return when that is recorded.

        May be done twice, if it was cut off meanwhile. Never raises for want of room.
        """
        self._tell(operation, error)
        while True:
            try:
                self._record(operation, status, error)
                break
            except Exception as failure:  # whatever it is, an operation must not be under way for ever
                log.exception("the end of an operation cannot be recorded yet", operation=operation.id)
                if not (is_full(failure) and self._reserve.spend()) and self._stopping.wait(RETRY_SECONDS):
                    break
        self.let_go(operation)

    def end_cut_off(self, operation: Operation) -> None:
        """End an operation that a former engine room was killed in. Raises DiskFullError."""
        error = f"the server was stopped during operation {operation.id}; nothing was changed, so do it again"
        self._tell(operation, error)
        try:
            self._record(operation, "failed", error)
        except Exception as failure:
            if not (is_full(failure) and self._reserve.spend()):
                raise
            self._record(operation, "failed", error)
        self.let_go(operation)
        log.warning("operation was cut off", operation=operation.id, app=operation.app)

    def _tell(self, operation: Operation, error: str) -> None:
        try:
            self._logs.opened(operation.id).last_line(f"Error: {error}")
        except OSError as failure:
            log.warning("an operation's log cannot be written", operation=operation.id, error=failure.strerror)

    def _record(self, operation: Operation, status: Status, error: str) -> None:
        """Put branches back where they were, and record how the operation ended."""
        step = Steps(operation)
        with self._store.read() as connection:
            before = operations.by_id(connection, operation.id).branches_before
        if before is not None:
            repository = self._repository(operation.app_id)
            with step("put_branches_back"):
                repository.move(repository.branches(), before)
        with step("record_failure"), self._store.write() as connection:
            operations.finish(connection, operation, status, error)

    def let_go(self, operation: Operation) -> None:
        """Close the log of an operation that is recorded as over, and let go of its commit."""
        self._logs.close(operation.id)
        try:
            with Steps(operation)("let_go"):
                self._repository(operation.app_id).let_go("operations", operation.id)
        except Exception as error:  # the operation is over; the next start lets go of what is left
            log.warning("a commit is held until the next start", operation=operation.id, error=str(error))
        with self._store.read() as connection:
            metrics.ended(operations.by_id(connection, operation.id))
