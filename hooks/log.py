"""Operation logs: redacted, written to a file, and followed live by any number of watchers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from hooks import metrics
from hooks.keeping import KEPT_DAYS
from hooks.redaction import NOTHING, Redactor, patterns
from store.reserve import Reserve, is_full
from store.secret import Secret

log = structlog.get_logger()

LIMIT = 16 << 20
"""Bytes of an operation's log; what a build prints beyond is dropped, with a notice."""

LOOK_SECONDS = 3600.0
"""How often logs are looked through for those that have been kept for long enough."""

Wake = Callable[[], None]


class OperationLog:
    """The log of one unfinished operation. Any thread may write, any may watch."""

    def __init__(self, path: Path, reserve: Reserve) -> None:
        self._path = path
        self._reserve = reserve
        self._file = path.open("ab", buffering=0)
        self._secrets = NOTHING
        self._redactor = Redactor(NOTHING)
        self._lock = threading.Lock()
        self._watchers: list[Wake] = []
        self._size = self._file.tell()
        self.closed = False

    def hide(self, configs: Iterable[Mapping[str, Secret]]) -> None:
        """From now on, let no value of these configs be seen."""
        with self._lock:
            self._put(self._redactor.flush())
            self._secrets = patterns(configs)
            self._redactor = Redactor(self._secrets)

    def redacted(self, text: str) -> str:
        """Return a whole text as this log would show it, to be shown elsewhere."""
        return self._redacted(text)

    def _redacted(self, text: str) -> str:
        redactor = Redactor(self._secrets)
        return redactor.feed(text) + redactor.flush()

    def write(self, text: str) -> None:
        """Append text, line ends included."""
        with self._lock:
            if self._size > LIMIT:
                return
            self._put(self._redactor.feed(text))
            if self._size > LIMIT:
                self._put(f"\n[the log is over {LIMIT >> 20} MiB; what follows is not kept]\n")

    def line(self, text: str = "", *, public: bool = False) -> None:
        """Append one line of the server's own, over the limit as well.

        A public one (an address) is not redacted, though a config value may happen to stand in it.
        """
        with self._lock:
            if public:
                self._put(self._redactor.flush() + text + "\n")
            else:
                self._put(self._redactor.feed(text + "\n"))

    def last_line(self, text: str) -> None:
        """Append the line that tells how the operation ended, unless a start that was cut off has done so already."""
        with self._lock:
            self._put(self._redactor.flush())
            line = f"{self._redacted(text)}\n"
            with self._path.open("rb") as file:
                file.seek(-min(self._size, len(line.encode(errors="replace"))), os.SEEK_END)
                told = file.read() == line.encode(errors="replace")
            if not told:
                self._put(line)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Say what happens now, and how long it took when it is done."""
        self.line(f"-----> {title}")
        started = time.monotonic()
        yield
        self.line(f"       done in {time.monotonic() - started:.1f} s")

    def close(self) -> None:
        """End the log; watchers see that it is over, and what is written later is dropped."""
        with self._lock:
            if self.closed:
                return
            self._put(self._redactor.flush())
            self.closed = True
            with suppress(OSError):
                # Whoever waited is answered now, and what they were answered has to be there after a power cut.
                os.fsync(self._file.fileno())
            self._file.close()
            watchers = list(self._watchers)
        for wake in watchers:
            wake()

    @contextmanager
    def watched(self, wake: Wake) -> Iterator[None]:
        """Call `wake`, from whatever thread, each time that the file has grown or is closed."""
        with self._lock:
            self._watchers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(wake)

    def _put(self, text: str) -> None:
        if not text or self.closed:
            return
        left = memoryview(text.encode(errors="replace"))
        while left:
            try:
                written = self._file.write(left) or 0
            except OSError as error:
                if is_full(error) and self._reserve.spend():
                    continue
                # A full disk must not turn a deploy that has succeeded into half a failure.
                log.warning("an operation's log cannot be written", error=error.strerror)
                break
            self._size += written
            metrics.LOG_BYTES.inc(written)
            left = left[written:]
        for wake in self._watchers:
            wake()


class Logs:
    """All operations' logs: files in one folder, and those that are being written."""

    def __init__(self, folder: Path, reserve: Reserve, days: int = KEPT_DAYS) -> None:
        self._folder = folder
        self._reserve = reserve
        self._days = days
        self._open: dict[int, OperationLog] = {}
        self._looked: float | None = None

    def path(self, operation_id: int) -> Path:
        """Return the file of an operation's log."""
        return self._folder / f"{operation_id}.log"

    def read(self, operation_id: int) -> str:
        """Return a log as far as it has come; of one that is kept no longer, a sentence that says so."""
        try:
            return self.path(operation_id).read_text(errors="replace")
        except FileNotFoundError:
            return self.gone(operation_id)

    def gone(self, operation_id: int) -> str:
        """Return what is told in place of a log that is not there."""
        return f"There is no log of operation {operation_id}: logs are kept for {self._days} days.\n"

    def expire(self, now: float | None = None) -> list[int]:
        """Remove the logs that have been kept for long enough at `now`, seconds since the epoch; return whose.

        Looks once an hour, however often it is called without `now`.
        """
        if now is None:
            if self._looked is not None and time.monotonic() - self._looked < LOOK_SECONDS:
                return []
            self._looked, now = time.monotonic(), time.time()
        removed = []
        for path in self._folder.glob("*.log"):
            # A log grows as long as its operation is not over, so its time is that of the end.
            if path.stem.isdigit() and int(path.stem) not in self._open:
                with suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > self._days * 86_400:
                        path.unlink()
                        removed.append(int(path.stem))
        if removed:
            log.info("logs of operations were removed", count=len(removed), days=self._days)
        return removed

    def open(self, operation_id: int) -> OperationLog:
        """Begin an operation's log, or go on with it after a restart."""
        opened = self._open[operation_id] = OperationLog(self.path(operation_id), self._reserve)
        return opened

    def opened(self, operation_id: int) -> OperationLog:
        """Return the log of an operation that is not over, begun if need be."""
        return self._open.get(operation_id) or self.open(operation_id)

    def live(self, operation_id: int) -> OperationLog | None:
        """Return the log of an operation that is not over."""
        return self._open.get(operation_id)

    def close(self, operation_id: int) -> None:
        """End an operation's log."""
        if ended := self._open.pop(operation_id, None):
            ended.close()
