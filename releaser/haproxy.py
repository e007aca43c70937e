"""The proxy in front of all apps of an instance: HAProxy 2.6 or later, run and configured from here.

It is a daemon that outlives the server: killing slipway stops no app. Its folder holds all it needs, and is how it is
found again. A switch of containers goes over the runtime interface and loses no request; a new app, or another address
of one, is a reload of the master, which loses none either.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from releaser import haproxy_config
from releaser.haproxy_config import ADMIN_SOCKET, KEEP_ALIVE_SECONDS, MASTER_SOCKET, Backend, Listening, Target
from releaser.haproxy_master import Master, ProxyUnreachableError, Worker
from releaser.haproxy_process import CONFIG_FILE, ENVIRONMENT, PID_FILE, alive, kept, words
from releaser.release import Route
from store.errors import SlipwayError

DRAIN_SECONDS = 15.0
"""How long requests under way may take until their container is stopped, as on Aptible."""

TRANSITION_SECONDS = 10.0
"""How long a start, a reload or a stop may take; they take about 50 ms."""

POLL_SECONDS = 0.01

PROXY_USER = "haproxy"
"""The user that Debian's package makes for it."""


class PortInUseError(SlipwayError):
    """Another program listens where the proxy should."""


class RouteTakenError(SlipwayError):
    """Another app answers at the route."""


class ProxyFailedError(SlipwayError):
    """HAProxy does not start, or does not take its configuration."""


def bindable(host: str, port: int) -> bool:
    """Return whether a TCP port is free to listen on at an IPv4 address."""
    with socket.socket(socket.AF_INET) as probe:
        # What HAProxy asks for too. SO_REUSEPORT, which it also sets, would let two proxies share a port unnoticed.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


class Proxy:
    """The proxy whose files are in `folder`. It may be shared by threads; one process at a time may own a folder.

    `http_port` is where all apps with a host name answer; None where each app has a port of its own. `program` is
    HAProxy's name or path.
    """

    def __init__(
        self, folder: Path, *, bind_host: str = "127.0.0.1", http_port: int | None = None, program: str = "haproxy"
    ) -> None:
        self._folder = folder.absolute()
        self._program = program
        self._listening = Listening(bind_host, http_port, _unprivileged_user())
        self._master = Master(self._folder / MASTER_SOCKET)
        self._lock = threading.RLock()

    def start(self) -> None:
        """Have the proxy running, with the routes of its configuration file: started, or reused if it is alive.

        Raises ProxyMissingError, PortInUseError or ProxyFailedError.
        """
        with self._lock:
            self._apply(self.routes(), changed=None)

    @property
    def running(self) -> bool:
        """Whether the proxy is alive; cheap enough to be asked every second."""
        return self._alive() is not None

    def answers(self) -> bool:
        """Return whether the master answers and has a worker. Waits for nobody but the master."""
        try:
            return self._alive() is not None and bool(self._master.workers())
        except ProxyUnreachableError:
            return False

    def stop(self) -> None:
        """Stop the proxy with all its connections, if it runs. Its files stay: `start` brings its routes back."""
        with self._lock:
            master = self._alive()
            if master is None:
                return
            os.kill(master, signal.SIGTERM)
            if not _until(lambda: self._alive() is None):
                os.kill(master, signal.SIGKILL)

    def remove(self) -> None:
        """Stop the proxy and forget all its routes."""
        with self._lock:
            self.stop()
            for name in (CONFIG_FILE, PID_FILE, MASTER_SOCKET, ADMIN_SOCKET):
                (self._folder / name).unlink(missing_ok=True)

    def routes(self) -> dict[int, Backend]:
        """Return what the proxy leads to, by app."""
        with self._lock:
            try:
                return haproxy_config.read((self._folder / CONFIG_FILE).read_text())
            except FileNotFoundError:
                return {}

    def addresses(self) -> set[str]:
        """Return the addresses that requests are sent to, those of containers that are draining included."""
        return {server.target.address for backend in self.routes().values() for server in backend.servers}

    def lead(self, app_id: int, route: Route, targets: Collection[Target]) -> None:
        """Let an app answer at `route` with just these containers, which must be ready to serve.

        Containers that did so until now finish what they have: see `drain`. Raises RouteTakenError, and what `start`
        raises; the proxy then leads where it led.
        """
        with self._lock:
            before = self.routes()
            if any(route.overlaps(other.route) for other in before.values() if other.app_id != app_id):
                where = " or ".join(route.hosts) or f"port {route.port}"
                raise RouteTakenError(f"another app answers at {where}; choose another")
            backend = before.get(app_id, Backend(app_id, route))
            after = {**before, app_id: Backend(app_id, route, backend.servers).leading_to(targets)}
            self._move(before, after, app_id)

    def lead_all(self, wanted: Mapping[int, tuple[Route, Collection[Target]]]) -> None:
        """Let just these apps answer, each like `lead`, and no other."""
        with self._lock:
            before = self.routes()
            after = {
                app_id: Backend(app_id, route, before.get(app_id, Backend(app_id, route)).servers).leading_to(targets)
                for app_id, (route, targets) in wanted.items()
            }
            self._move(before, after, None)

    def forget(self, app_id: int) -> None:
        """Let an app answer nowhere."""
        with self._lock:
            before = self.routes()
            if app_id in before:
                self._move(before, {key: value for key, value in before.items() if key != app_id}, None)

    def drain(self, app_id: int, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until an app's draining containers have no request in flight, `seconds` at most, and let go of them."""
        backend = self.routes().get(app_id)
        if backend is None:
            return
        draining = {index for index, server in enumerate(backend.servers) if server.state == "drain"}
        if not draining:
            return
        with contextlib.suppress(ProxyUnreachableError):
            _until(lambda: self._let_go(backend.name, draining), seconds)
        with self._lock:
            before = self.routes()
            if app_id in before:
                self._move(before, {**before, app_id: before[app_id].drained()}, app_id)

    def requests_in_flight(self, app_id: int) -> int:
        """Return how many requests to an app are being served at this moment. Raises ProxyUnreachableError."""
        backend = self.routes().get(app_id)
        return 0 if backend is None else self._in_flight(backend.name, range(len(backend.servers)))

    def _let_go(self, backend: str, servers: Iterable[int]) -> bool:
        """Return whether these servers of a backend have no request in flight, and will get no more."""
        current, *replaced = self._master.workers()
        # A replaced worker cannot be told of a switch that came after it, and still takes requests on kept connections.
        return not (replaced and current.uptime <= KEEP_ALIVE_SECONDS) and not self._in_flight(backend, servers)

    def _in_flight(self, backend: str, servers: Iterable[int]) -> int:
        total = 0
        for worker in self._master.workers():
            serving = self._master.requests_in_flight(worker, backend)
            total += sum(serving.get(server, 0) for server in servers)
        return total

    def _move(self, before: Mapping[int, Backend], after: Mapping[int, Backend], changed: int | None) -> None:
        """Apply `after`; where that fails, leave the file as it was, so that it says what the proxy does."""
        try:
            self._apply(after, changed)
        except BaseException:
            self._write(haproxy_config.render(before, self._listening))
            raise

    def _apply(self, backends: Mapping[int, Backend], changed: int | None) -> None:
        """Write the configuration and make the proxy follow it. `changed` is the one app that differs, None for any."""
        digest = haproxy_config.shape(backends, self._listening)
        workers = self._workers()
        if workers and self._master.description(workers[0]) == digest:
            self._write(haproxy_config.render(backends, self._listening))
            for backend in backends.values() if changed is None else [backends[changed]]:
                self._master.tell(workers[0], haproxy_config.commands(backend))
            return
        self._check_ports(backends, bool(workers))
        self._write(haproxy_config.render(backends, self._listening))
        if workers:
            self._reload(digest)
        else:
            self._launch()

    def _workers(self) -> list[Worker]:
        """Return the running proxy's workers, none if it does not run. Raises ProxyUnreachableError."""
        workers: list[Worker] = []

        def known() -> bool:
            try:
                workers[:] = self._master.workers()
            except ProxyUnreachableError:
                return self._alive() is None  # else it is coming up, or going down
            return bool(workers)

        if self._alive() is not None and not _until(known):
            raise ProxyUnreachableError(
                f"HAProxy runs in {self._folder} without any worker; kill it, and it is started anew"
            )
        return workers

    def _check_ports(self, backends: Mapping[int, Backend], alive: bool) -> None:
        held = haproxy_config.ports(self.routes().values(), self._listening) if alive else set()
        for port in sorted(haproxy_config.ports(backends.values(), self._listening) - held):
            # Workers of a killed master hold their ports for a moment longer.
            if not _until(partial(bindable, self._listening.bind_host, port), 0 if alive else 2):
                raise PortInUseError(
                    f"another program listens on {self._listening.bind_host}:{port}, where the proxy should; "
                    "stop that program or choose another port"
                )

    def _write(self, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._folder / f"{CONFIG_FILE}.new"
        with fresh.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / CONFIG_FILE)

    def _launch(self) -> None:
        if kept(self._folder):
            # It starts as soon as its keeper sees the configuration, which has just been written.
            if not _until(lambda: self._alive() is not None) or not self._workers():
                raise ProxyFailedError(f"`slipway proxy` does not get HAProxy started in {self._folder}; see its log")
            return
        started = subprocess.run(
            words(self._program, self._folder, daemon=True),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
        if started.returncode != 0:
            raise ProxyFailedError(f"HAProxy does not start: {_alerts(started.stderr)}")
        # The process that was started ends when the listeners are bound; the pid file comes a moment later.
        if not _until(lambda: self._alive() is not None) or not self._workers():
            raise ProxyFailedError(f"HAProxy started, but does not answer in {self._folder}; look at its process there")

    def _reload(self, digest: str) -> None:
        self._master.ask("reload")

        def settled() -> bool:
            try:
                workers = self._master.workers()
                return bool(workers) and (
                    self._master.description(workers[0]) == digest or self._master.failed_reloads() > 0
                )
            except ProxyUnreachableError:  # while the master replaces itself
                return False

        if not _until(settled) or self._master.failed_reloads() > 0:
            raise ProxyFailedError("HAProxy did not take its new configuration and keeps the former one")

    def _alive(self) -> int | None:
        """Return the master's process id, None if it does not run."""
        return alive(self._program, self._folder)


def _until(condition: Callable[[], bool], seconds: float = TRANSITION_SECONDS) -> bool:
    """Wait until a condition holds, `seconds` at most, and return whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(PROXY_USER).pw_name
    except KeyError:
        return None


def _alerts(output: str) -> str:
    """Return what HAProxy complains about, without its time stamps and process ids."""
    alerts = [line.partition(" : ")[2] for line in output.splitlines() if line.startswith("[ALERT]")]
    return "; ".join(alerts) or "it gave no reason"
