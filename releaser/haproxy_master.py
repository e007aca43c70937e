"""The master process's command line: one question, one answer, over a Unix socket.

HAProxy Management Guide, section 9.4 "Master CLI": the master answers for itself, and hands a command on to the worker
with a given process id. Workers that a reload has replaced still serve the connections they have. They answer
questions, but take no more changes ("Proxy is disabled").
"""

from __future__ import annotations

import csv
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from store.errors import SlipwayError

ANSWER_SECONDS = 10.0
"""The master answers within a millisecond; after this it hangs."""

_UNKNOWN_WORKER = "Can't find the target PID"


_WORKER = re.compile(r"(?P<pid>\d+)\s+worker\s+\d+\s+(?P<days>\d+)d(?P<hours>\d+)h(?P<minutes>\d+)m(?P<seconds>\d+)s\s")
"""A line of the answer to "show proc": process id, kind, how many reloads ago it was replaced, how long it runs."""


class Worker(NamedTuple):
    """A process that serves connections."""

    pid: int
    uptime: int
    """Seconds, whole ones."""


class ProxyUnreachableError(SlipwayError):
    """The proxy's master does not answer on its socket."""


class Master:
    """The master that listens at `path`. It holds no connection between questions."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def listens(self) -> bool:
        """Return whether somebody listens there: the socket's file stays when a master is killed."""
        try:
            with self._connected():
                return True
        except OSError:
            return False

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        # The folder's descriptor makes a short name, since sun_path has 108 bytes (unix(7)).
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(f"/proc/self/fd/{folder}/{self._path.name}")
                yield connection
        finally:
            os.close(folder)

    def ask(self, command: str) -> str:
        """Return the master's answer. Raises ProxyUnreachableError."""
        try:
            with self._connected() as connection:
                connection.sendall(f"{command}\n".encode())
                connection.shutdown(socket.SHUT_WR)  # the master answers, and then closes too
                answer = bytearray()
                while received := connection.recv(65536):
                    answer += received
        except OSError as error:
            raise ProxyUnreachableError(
                f"HAProxy's master process does not answer on {self._path}; kill that process, and a new one is started"
            ) from error
        return answer.decode(errors="replace")

    def workers(self) -> list[Worker]:
        """Return all workers, the current one first and then those that are finishing."""
        found = []
        for line in self.ask("show proc").splitlines():
            match = _WORKER.match(line)
            if match:
                days, hours, minutes, seconds = (int(match[name]) for name in ("days", "hours", "minutes", "seconds"))
                found.append(Worker(int(match["pid"]), ((days * 24 + hours) * 60 + minutes) * 60 + seconds))
        return found

    def failed_reloads(self) -> int:
        """Return how many reloads in a row have failed."""
        for line in self.ask("show proc").splitlines():
            if " master " in line and "[failed: " in line:
                return int(line.partition("[failed: ")[2].partition("]")[0])
        return 0

    def tell(self, worker: Worker, commands: list[str]) -> str:
        """Run commands in a worker, in their order, and return its answers. A worker that is gone answers nothing."""
        answer = self.ask("; ".join(f"@!{worker.pid} {command}" for command in commands))
        return "" if _UNKNOWN_WORKER in answer else answer

    def description(self, worker: Worker) -> str:
        """Return the `description` of the file that a worker was started with."""
        for line in self.tell(worker, ["show info"]).splitlines():
            key, _, value = line.partition(":")
            if key.lower() == "description":
                return value.strip()
        return ""

    def requests_in_flight(self, worker: Worker, backend: str) -> dict[int, int]:
        """Return how many requests each server of a backend is serving in a worker, by the server's number."""
        answer = self.tell(worker, [f"show stat {backend} 4 -1"])  # 4: servers only; -1: all of them
        rows = csv.DictReader(answer.lstrip("# \n").splitlines())
        return {int(row["svname"]): int(row["scur"] or 0) for row in rows if row.get("pxname") == backend}
