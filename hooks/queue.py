"""Who runs when: one operation at a time per app, in order of arrival; apps beside each other, up to a limit.

Nothing here is stored. The queue lives and dies with the engine room, so no lock can outlast its holder; a restart
builds it anew from the records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Job:
    """One queued or running operation."""

    number: int
    app_id: int
    run: Callable[[threading.Event], None]
    """Does the work on a thread of its own, and never raises. The event is set when it should stop."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    branch: str | None = None
    """The branch whose push asked for it."""


class Queue:
    """Runs jobs on threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: list[Job] = []
        self._running: dict[int, Job] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._pauses = 0
        self._held: set[int] = set()
        """Apps of which nothing is started for the moment."""

    def add(self, job: Job) -> Job | None:
        """Queue a job; return the one it has to wait for, if the app is busy."""
        with self._changed:
            ahead = [other for other in self._waiting if other.app_id == job.app_id]
            before = ahead[-1] if ahead else self._running.get(job.app_id)
            self._waiting.append(job)
            self._start_what_can()
            return before

    def withdraw(self, number: int) -> bool:
        """Take a waiting job out of the queue; False if it does not wait (any more)."""
        with self._changed:
            found = [job for job in self._waiting if job.number == number]
            self._waiting = [job for job in self._waiting if job.number != number]
            return bool(found)

    def overtake(self, job: Job) -> list[int]:
        """Take out of the queue what waits for an earlier push to the branch of `job`; return the numbers."""
        if job.branch is None:
            return []
        with self._changed:
            overtaken = [
                other
                for other in self._waiting
                if (other.app_id, other.branch) == (job.app_id, job.branch) and other.number < job.number
            ]
            self._waiting = [other for other in self._waiting if other not in overtaken]
            return [other.number for other in overtaken]

    def cancel(self, number: int) -> bool:
        """Ask a running job to stop; False if it is not running."""
        with self._changed:
            for job in self._running.values():
                if job.number == number:
                    job.cancelled.set()
                    return True
            return False

    @property
    def stopping(self) -> bool:
        """Whether nothing is started any more."""
        return self._stopping

    def waiting(self) -> list[int]:
        """Return the numbers of the jobs that wait, in their order."""
        with self._changed:
            return [job.number for job in self._waiting]

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def drain(self, seconds: float) -> bool:
        """Start nothing more and wait for what runs; return whether all of it ended in time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._stopping = True
            return self._changed.wait_for(self._quiet, timeout=max(0.0, deadline - time.monotonic()))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let what runs finish, and start nothing while the block runs."""
        with self._changed:
            self._pauses += 1
            self._changed.wait_for(self._quiet)
        try:
            yield
        finally:
            with self._changed:
                self._pauses -= 1
                self._start_what_can()

    @contextmanager
    def idle(self, app_id: int, seconds: float = 0.0) -> Iterator[bool]:
        """Yield whether nothing of an app runs, and if so start nothing of it while the block runs.

        What runs has `seconds` to end.
        """

        def is_idle() -> bool:
            return not (self._pauses or app_id in self._running or app_id in self._held)

        with self._changed:
            free = self._changed.wait_for(is_idle, timeout=seconds) and not self._stopping
            if free:
                self._held.add(app_id)
        try:
            yield free
        finally:
            if free:
                with self._changed:
                    self._held.remove(app_id)
                    self._start_what_can()
                    self._changed.notify_all()

    @contextmanager
    def quiet(self) -> Iterator[bool]:
        """Yield whether nothing runs at all, and if so start nothing while the block runs."""
        with self._changed:
            free = self._quiet() and not self._stopping
            self._pauses += free
        try:
            yield free
        finally:
            with self._changed:
                self._pauses -= free
                self._start_what_can()

    def _quiet(self) -> bool:
        return not self._running and not self._held

    def cancel_all(self) -> None:
        """Ask everything that runs to stop."""
        with self._changed:
            for job in self._running.values():
                job.cancelled.set()

    def _start_what_can(self) -> None:
        for job in list(self._waiting):
            if self._stopping or self._pauses or len(self._running) >= self._limit:
                return
            if job.app_id not in self._running and job.app_id not in self._held:
                self._waiting.remove(job)
                self._running[job.app_id] = job
                threading.Thread(target=self._run, args=(job,), name=f"operation-{job.number}").start()

    def _run(self, job: Job) -> None:
        try:
            job.run(job.cancelled)
        finally:
            with self._changed:
                del self._running[job.app_id]
                self._start_what_can()
                self._changed.notify_all()
