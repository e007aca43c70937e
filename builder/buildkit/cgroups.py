"""Memory and CPU of BuildKit's steps, kept within limits through their control groups (cgroups(7)).

The engine's `/build?version=2` ignores the limits that the classic builder obeys, and names no control group: every
step of every build on the engine gets one of its own, beside the others, under a random name. So the steps are found
from outside, by a mark in the environment of their processes, and the limits are written where the kernel reads them.

That takes the engine's own machine, and root on it; where the server has neither, `enforceable` says no. The mark is a
`NO_PROXY` that names a host which cannot exist (RFC 6761): proxy variables are the only ones that BuildKit hands to
every step without making them part of the image, its history, or its cache (Dockerfile reference, "Predefined ARGs").
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from builder.limits import CPU_PERIOD, Limits

VARIABLE = "NO_PROXY"
LOOK_SECONDS = 0.02
"""How soon a new step is found. What it allocates until then counts as well."""
YOUNG_SECONDS = 10.0
"""How long a process is looked at again: runc's own becomes that of the step, under the same number."""

_PROC = Path("/proc")
_PEER = struct.Struct("iII")
"""struct ucred of unix(7): process, user, group."""


def enforceable(engine: str) -> bool:
    """Tell whether limits can be written for an engine, by its address: it is on this machine, and so is root."""
    scheme, _, path = engine.partition("://")
    if scheme not in ("unix", "http+unix") or os.geteuid() != 0:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            peer, _, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    except OSError:
        return False
    # Of another process namespace it would be 0, and read-only control groups are those of a container.
    return bool(peer) and any(os.access(mount, os.W_OK) for mount in _hierarchies().values())


class _BusyError(Exception):
    """The kernel cannot take back what a group has beyond a limit."""


class Watch:
    """Finds the steps of one build while it runs, and keeps them within limits together."""

    def __init__(self, limits: Limits, mark: str, stop: Callable[[], None]) -> None:
        """Prepare; `stop` is called, once, if only ending the build keeps it within its memory."""
        self._limits = limits
        self._mark = f"{VARIABLE}={mark}".encode()
        self._stop = stop
        self._hierarchies = _hierarchies()
        self._since: dict[int, float] = {}
        self._steps: dict[str, _Step] = {}
        self.out_of_memory = False
        """Whether the kernel has ended a process of the newest steps for want of memory."""
        self.stopped = False
        """Whether the whole build had to be ended."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch for the time of a `with` block."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                self._look()

        thread = threading.Thread(target=look, name="buildkit-limits", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look(self) -> None:
        changed = False
        for path in self._new_groups():
            step = self._steps[path] = _Step.of(path, self._hierarchies)
            changed = True
            if self._limits.memory is not None and not step.limit_memory(self._limits.memory):
                self._exceeded()
        gone = [path for path, step in self._steps.items() if not step.exists()]
        for path in gone:
            del self._steps[path]
        if changed or gone:
            for step in self._steps.values():
                step.limit_cpu(self._limits.quota(len(self._steps)))
        # What an earlier step did without is not why a later one fails.
        self.out_of_memory = self.out_of_memory and not changed
        if self._limits.memory is not None and self._steps:
            self.out_of_memory |= any(step.killed() for step in self._steps.values())
            # Each has the whole limit for itself; stages that run side by side have it together.
            if sum(step.memory() for step in self._steps.values()) > self._limits.memory:
                self._exceeded()

    def _exceeded(self) -> None:
        if not self.stopped:
            self.stopped = True
            self._stop()

    def _new_groups(self) -> set[str]:
        """Return what `/proc/PID/cgroup` says of processes that carry the mark, where that is new."""
        now = time.monotonic()
        numbers = {int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()}
        self._since = {number: self._since.get(number, now) for number in numbers}
        found = set()
        for number, since in self._since.items():
            if now - since > YOUNG_SECONDS:
                continue
            with suppress(OSError):
                if not self._marked(number):
                    continue
                group = (_PROC / str(number) / "cgroup").read_text()
                # Of a process that has ended meanwhile, version 1 names the root group, which has the whole machine's
                # memory (kernel/cgroup/cgroup.c, proc_cgroup_show).
                if self._marked(number):
                    found.add(group)
                    self._since[number] = now - 2 * YOUNG_SECONDS
        return found - set(self._steps)

    def _marked(self, number: int) -> bool:
        """Whether a process lives and is of this build. Raises OSError if there is none of that number."""
        return self._mark in (_PROC / str(number) / "environ").read_bytes().split(b"\0")


@dataclass(frozen=True)
class _Step:
    """The control groups of one step: folders by controller. With version 2 of cgroups all are the same folder."""

    memory_group: Path | None
    cpu_group: Path | None

    @classmethod
    def of(cls, text: str, hierarchies: Mapping[str, Path]) -> _Step:
        """Read `/proc/PID/cgroup`: `NUMBER:CONTROLLERS:PATH` per hierarchy, without controllers for version 2."""
        groups: dict[str, Path] = {}
        for line in text.splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                if ".." not in path.split("/") and controller in hierarchies:
                    groups[controller] = hierarchies[controller] / path.lstrip("/")
        unified = groups.get("")
        return cls(groups.get("memory", unified), groups.get("cpu", unified))

    def exists(self) -> bool:
        """Whether the step goes on."""
        return any(group is not None and group.is_dir() for group in (self.memory_group, self.cpu_group))

    def limit_memory(self, most: int) -> bool:
        """Give it at most so many bytes; False if it has taken more already, and cannot give it back."""
        if self.memory_group is None:
            return True
        try:
            if _write(self.memory_group / "memory.max", most):
                _write(self.memory_group / "memory.swap.max", 0)
            elif _write(self.memory_group / "memory.limit_in_bytes", most):
                _write(self.memory_group / "memory.memsw.limit_in_bytes", most)
        except _BusyError:
            return False
        return True

    def limit_cpu(self, quota: int | None) -> None:
        """Give it so many microseconds in each CPU_PERIOD."""
        if (
            self.cpu_group is not None
            and quota is not None
            and not _write(self.cpu_group / "cpu.max", f"{quota} {CPU_PERIOD}")
            and _write(self.cpu_group / "cpu.cfs_period_us", CPU_PERIOD)
        ):
            _write(self.cpu_group / "cpu.cfs_quota_us", quota)

    def memory(self) -> int:
        """Return the bytes that its processes hold; what the kernel only keeps for speed does not count."""
        counts = self._counts("memory.stat")
        return counts.get("anon", counts.get("total_rss", 0))

    def killed(self) -> bool:
        """Whether the kernel has ended one of its processes for want of memory."""
        return any(self._counts(name).get("oom_kill", 0) for name in ("memory.events", "memory.oom_control"))

    def _counts(self, name: str) -> dict[str, int]:
        if self.memory_group is None:
            return {}
        try:
            lines = (self.memory_group / name).read_text().splitlines()
        except OSError:  # the step has ended, or cgroups are of the other version
            return {}
        return {key: int(value) for key, _, value in (line.partition(" ") for line in lines)}


def _write(path: Path, value: int | str) -> bool:
    """Write into a file of a control group; False if there is none. Raises _BusyError for less than is in use."""
    try:
        with path.open("r+") as file:
            file.write(str(value))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _BusyError from error
        return False
    return True


def _hierarchies() -> dict[str, Path]:
    """Return where control groups are mounted, by controller; "" is version 2 (proc_pid_mountinfo(5))."""
    found: dict[str, Path] = {}
    for line in (_PROC / "self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(maxsplit=2)
        point = Path(fields.split()[4])
        if kind == "cgroup2":
            found[""] = point
        elif kind == "cgroup":
            for option in options.split(","):
                found[option] = point
    return found
