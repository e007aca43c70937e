"""`slipway serve`: a small supervisor over one engine room and some front doors, which restarts what dies.

It binds the sockets before anything else, so that a port in use is one sentence, and so that a process that is
restarted finds its listener, and the clients waiting there, where they were. It stays single-threaded, since it forks.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import structlog

from console import log as logging
from console.service_manager import ServiceManager
from console.settings import Address, Settings
from gitserver import host_key
from gitserver.counters import Counters
from gitserver.front_door import FrontDoor
from gitserver.places import Places
from gitserver.quarantine import remove_all_abandoned
from hooks.engine_room import EngineRoom
from hooks.unix_http import short_address
from store.errors import SlipwayError

log = structlog.get_logger()

BACKLOG = 512
"""Connections that may wait to be accepted (listen(2)), enough for a moment without a process."""

RESTART_SECONDS = 1.0
"""Pause before a process that died at once is started again, so that a broken machine is not kept busy."""

POLL_SECONDS = 0.1
"""How soon a process that died is noticed."""

PRIVATE_UMASK = 0o077
"""What is made is for the server's user alone, whatever umask it was started with."""

GRACE_SECONDS = 15.0
"""Beyond the drain, before a process that does not end is killed."""

DISMISSED = signal.SIGUSR1
"""Tells a stopping engine room that no front door is left that might ask it something."""


class ListenError(SlipwayError):
    """An address cannot be listened on."""


class EngineRoomFailedError(SlipwayError):
    """The engine room ended before it had answered anybody."""


class ServingAlreadyError(SlipwayError):
    """Another server serves this data folder."""


def listen(address: Address, variable: str) -> socket.socket:
    """Return a listening socket; raises ListenError naming the address and the setting that changes it."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that say that they are TCP's; without, each answer would wait
    # for the client's delayed acknowledgement, some 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(
            f"{address} cannot be listened on: {error.strerror}; stop what uses it, or choose another with {variable}"
        ) from error
    return listener


def _listen_on_path(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # its owner is gone: we hold the lock
    listener = socket.socket(socket.AF_UNIX)
    old = os.umask(0o177)
    try:
        with short_address(path) as address:
            listener.bind(address)
    finally:
        os.umask(old)
    listener.listen(BACKLOG)
    return listener


def _say(line: str) -> None:
    """Print a line with one write, so that no event of another process comes between it and its end (print has two)."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Supervisor:
    """Serves one data folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: dict[int, Callable[[], int]] = {}
        self._stopping = False
        self._manager = ServiceManager()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ListenError, ServingAlreadyError, DataFolderError or SealError."""
        settings = self._settings
        os.umask(PRIVATE_UMASK)
        # Memory holds secrets, and a core file would bring it to the disk.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        settings.data.require()
        settings.data.require_private()
        self._lock()
        (self._ssh, ssh_address), (self._api, api_address) = self._listeners()
        self._socket = _listen_on_path(settings.data.socket)
        # Port 0 has become a real one, which the addresses that people are told contain.
        self._settings = settings = settings.bound(ssh_address, api_address)
        _say(f"host key {host_key.make_or_load(settings.data.host_key)} (ed25519)")
        # A child that sees the other end close knows that its supervisor is gone, however that came.
        self._lifeline, self._held = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # Memory that all of them share, and that outlives each of them.
        self._places = Places(settings.limits.connection, settings.front_doors)
        self._counters = Counters(settings.front_doors)
        gc.freeze()  # what children share with us stays shared (gc.freeze in the Python library reference)
        self._start_engine_room(first=True)
        for door in range(settings.front_doors):
            self._start_front_door(door)
        _say(f"ready ssh={settings.ssh} api={settings.api}")
        self._manager.tell(READY=1, STATUS=f"serving ssh={settings.ssh} api={settings.api}")
        self._watch()

    def _listeners(self) -> list[tuple[socket.socket, Address]]:
        """Return the sockets for SSH and for HTTP: those that were passed, by their ports, or else new ones."""
        passed: dict[int, socket.socket] = {}
        for listener in self._manager.listeners():
            port = listener.getsockname()[1]
            if port in passed:
                raise ListenError(f"the service manager passed two sockets for port {port}; let it pass one, for [::]")
            passed[port] = listener
        chosen = []
        for address, variable in ((self._settings.ssh, "SLIPWAY_SSH"), (self._settings.api, "SLIPWAY_API")):
            given = passed.pop(address.port, None)
            listener = given or listen(address, variable)
            host, port = listener.getsockname()[:2]
            chosen.append((listener, Address(host if given else address.host, port)))
        if passed:
            raise ListenError(
                f"the service manager passed a socket for port {min(passed)}, which is neither that of SLIPWAY_SSH nor "
                "that of SLIPWAY_API; make them the same"
            )
        return chosen

    def _lock(self) -> None:
        self._settings.data.create()
        lock = self._settings.data.lock.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServingAlreadyError(
                f"another server is serving {self._settings.data.root} already; stop it first"
            ) from error
        # Kept open, and by every child as well: the folder is free when the last of them has ended.
        self._lock_file = lock

    def _start_engine_room(self, *, first: bool = False) -> int:
        """Start the engine room and wait until it answers, or has died; the first time that is an error."""
        ready, tell = os.pipe()

        def work() -> None:
            # Imported here: front doors, which share the supervisor's memory, need none of it. Nothing that is imported
            # is garbage, and looking for some would make a start, and a start after a crash, a tenth longer.
            gc.disable()
            from console import engine_room

            gc.freeze()
            gc.enable()

            os.close(ready)
            self._ssh.close()

            def told() -> None:
                os.write(tell, b"!")
                os.close(tell)

            engine_room.run(self._settings, self._socket, self._api, told, self._counters, self._places)

        process = self._fork("engine", work)
        self._children[process] = self._start_engine_room
        os.close(tell)
        answered = os.read(ready, 1)
        os.close(ready)
        if not answered and not self._stopping and first:
            raise EngineRoomFailedError("the engine room did not start; its log above tells why")
        return process

    def _start_front_door(self, number: int) -> int:
        self._counters.forget(number)

        def work() -> None:
            self._api.close()
            self._socket.close()
            door = FrontDoor(
                self._ssh,
                engine_room=EngineRoom(self._settings.data.socket),
                host_key=self._settings.data.host_key,
                limits=self._settings.limits,
                places=self._places.of(number),
                counters=self._counters.of(number),
                drain_seconds=self._settings.drain + GRACE_SECONDS / 2,
            )
            signal.signal(signal.SIGTERM, lambda _number, _frame: door.drain())
            # A former one may have been killed in the midst of pushes. There may be many repositories to look through.
            repositories = self._settings.data.repositories
            threading.Thread(target=remove_all_abandoned, args=(repositories,), daemon=True).start()
            door.run()

        process = self._fork("front", work)
        self._children[process] = partial(self._start_front_door, number)
        return process

    def _fork(self, name: str, work: Callable[[], None]) -> int:
        # Standard output is flushed first: what is still buffered would be written by both.
        sys.stdout.flush()
        # Until the child has ways of its own with signals it has ours: one that comes so early would be taken for us.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        process = os.fork()
        if process:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return process
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            logging.configure(self._settings.log, name)
            Path("/proc/self/comm").write_text(f"slipway-{name}")  # what ps and top show (proc(5))
            os.close(self._held)
            threading.Thread(target=_end_with, args=(self._lifeline,), daemon=True).start()
            work()
            status = 0
        except SlipwayError as error:
            log.error("cannot go on", error=str(error))
        except Exception:
            log.exception("died of a defect")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # nothing of the supervisor's is this child's to clean up

    def _watch(self) -> None:
        started = dict.fromkeys(self._children, time.monotonic())
        deadline: float | None = None
        dismissed = False
        while self._children:
            if self._stopping and deadline is None:
                seconds = self._settings.drain + GRACE_SECONDS
                deadline = time.monotonic() + seconds
                self._manager.tell(STOPPING=1, EXTEND_TIMEOUT_USEC=int((seconds + GRACE_SECONDS) * 1e6))
                for process in self._children:
                    os.kill(process, signal.SIGTERM)
            if deadline is not None and not dismissed and set(self._children.values()) == {self._start_engine_room}:
                # The last one: whoever was still logging in at a front door had to be looked up.
                dismissed = True
                for process in self._children:
                    os.kill(process, DISMISSED)
            if deadline is not None and time.monotonic() > deadline:
                for process in self._children:
                    os.kill(process, signal.SIGKILL)
            process, _status = os.waitpid(-1, os.WNOHANG)
            if not process:
                time.sleep(POLL_SECONDS)
                continue
            again = self._children.pop(process, None)
            # Of somebody else's process we hear where we are the first one, in a container.
            if again is not None and not self._stopping:
                log.warning("a process died; starting it again", pid=process)
                if time.monotonic() - started.get(process, 0) < RESTART_SECONDS:
                    time.sleep(RESTART_SECONDS)
                started[again()] = time.monotonic()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)
