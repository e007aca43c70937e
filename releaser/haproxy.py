"""The proxy in front of all apps of an instance: HAProxy 2.6 or later, run and configured from here.

It is a daemon that outlives the server: killing slipway stops no app. Its folder holds all it needs, and is how it is
found again. A switch of containers goes over the runtime interface and loses no request; a new app, or another address
of one, is a reload of the master, which loses none either.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from releaser import haproxy_certificates, haproxy_config
from releaser.haproxy_backends import Routing
from releaser.haproxy_certificates import CertificateFiles
from releaser.haproxy_config import ADMIN_SOCKET, KEEP_ALIVE_SECONDS, MASTER_SOCKET, Listening
from releaser.haproxy_daemon import Daemon, ProxyFailedError, unprivileged_user, until
from releaser.haproxy_master import Master, ProxyUnreachableError, Worker
from releaser.haproxy_process import CONFIG_FILE, PID_FILE
from releaser.route import OWN, Certificate, Destination, Route, Target, Targets
from releaser.services import Service
from store.errors import SlipwayError

_log = structlog.get_logger()

DRAIN_SECONDS = 15.0
"""How long requests under way may take until their container is stopped, as on Aptible."""


class PortInUseError(SlipwayError):
    """Another program listens where the proxy should."""


class RouteTakenError(SlipwayError):
    """Another app answers at the route."""


def bindable(host: str, port: int) -> bool:
    """Return whether a TCP port is free to listen on at an IPv4 or IPv6 address."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # What HAProxy asks for too. SO_REUSEPORT, which it also sets, would let two proxies share a port unnoticed.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except PermissionError:
            return True  # HAProxy may have a capability that we lack, and says so itself if it has not
        except OSError:
            return False
    return True


class Proxy:
    """The proxy whose files are in `folder`. It may be shared by threads; one process at a time may own a folder.

    `listening` is where it listens, but for the apps' own ports; its `user` is found here. `program` is HAProxy's name
    or path, `drain_seconds` how long `drain` waits.
    """

    publishes_ports = False
    """Whether it is the containers themselves that listen; see `releaser.published_ports`."""

    def __init__(
        self,
        folder: Path,
        listening: Listening | None = None,
        *,
        program: str = "haproxy",
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._folder = folder.absolute()
        self._program = program
        self._daemon = Daemon(self._folder, program)
        self._certificates = CertificateFiles(self._folder)
        self._listening = replace(listening or Listening(), user=unprivileged_user())
        self._drain_seconds = drain_seconds
        self._master = Master(self._folder / MASTER_SOCKET)
        self._lock = threading.RLock()

    def published(self, route: Route, service: Service, index: int) -> str:
        """Return that no container is reached but through the proxy."""
        return ""

    def start(self) -> None:
        """Have the proxy running, with the routes of its configuration file: started, or reused if it is alive.

        Raises ProxyMissingError, PortInUseError or ProxyFailedError.
        """
        with self._lock:
            self._apply(self.routes(), changed=None)

    @property
    def running(self) -> bool:
        """Whether the proxy is alive; cheap enough to be asked every second."""
        return self._daemon.running

    def answers(self) -> bool:
        """Return whether the master answers and has a worker. Waits for nobody but the master."""
        try:
            return self.running and bool(self._master.workers())
        except ProxyUnreachableError:
            return False

    def stop(self) -> None:
        """Stop the proxy with all its connections, if it runs. Its files stay: `start` brings its routes back.

        One that is kept by somebody runs for as long as it has a configuration.
        """
        with self._lock:
            self._daemon.end()

    def remove(self) -> None:
        """Stop the proxy and forget all its routes and certificates."""
        with self._lock:
            self.stop()
            (self._folder / CONFIG_FILE).unlink(missing_ok=True)
            until(lambda: not self.running)  # its keeper ends it now
            for name in (PID_FILE, MASTER_SOCKET, ADMIN_SOCKET):
                (self._folder / name).unlink(missing_ok=True)
            self._certificates.remove()

    def routes(self) -> dict[int, Routing]:
        """Return what the proxy leads to, by app."""
        with self._lock:
            return haproxy_config.read(self._text())

    def addresses(self) -> set[str]:
        """Return the addresses that requests are sent to, those of containers that are draining included."""
        return {
            server.target.address
            for routing in self.routes().values()
            for backend in routing.backends
            for server in backend.servers
        }

    def lead(self, app_id: int, route: Route, targets: Collection[Target] | Targets) -> None:
        """Let an app answer at `route` with just these containers, which must be ready to serve.

        Targets that are not told apart by destination are those of the app's own address. Containers that took requests
        until now finish what they have: see `drain`. Raises RouteTakenError, and what `start` raises; the proxy then
        leads where it led.
        """
        with self._lock:
            before = self.routes()
            others = [other for key, other in before.items() if key != app_id]
            if taken := sorted({each for other in others for each in route.shared(other.route)}):
                raise RouteTakenError(f"another app answers at {', '.join(taken)}; choose another")
            former = before.get(app_id, Routing.new(app_id, route))
            self._move(before, {**before, app_id: former.leading(route, _by_destination(targets))}, app_id)

    def lead_all(self, wanted: Mapping[int, tuple[Route, Collection[Target] | Targets]]) -> None:
        """Let just these apps answer, each like `lead`, and no other."""
        with self._lock:
            before = self.routes()
            after = {
                app_id: before.get(app_id, Routing.new(app_id, route)).leading(route, _by_destination(targets))
                for app_id, (route, targets) in wanted.items()
            }
            self._move(before, after, None)

    def forget(self, app_id: int) -> None:
        """Let an app answer nowhere."""
        with self._lock:
            before = self.routes()
            if app_id in before:
                self._move(before, {key: value for key, value in before.items() if key != app_id}, None)

    def drain(self, app_id: int, seconds: float | None = None) -> None:
        """Wait until an app's draining containers have no request in flight, and let go of them.

        It takes `seconds` at most, by default what the proxy was made with.
        """
        routing = self.routes().get(app_id)
        if routing is None or not routing.draining:
            return
        with contextlib.suppress(ProxyUnreachableError):
            until(lambda: self._let_go(routing), self._drain_seconds if seconds is None else seconds)
        with self._lock:
            before = self.routes()
            if app_id in before:
                self._move(before, {**before, app_id: before[app_id].drained()}, app_id)

    def requests_in_flight(self, app_id: int) -> int:
        """Return how many requests to an app are being served at this moment. Raises ProxyUnreachableError."""
        routing = self.routes().get(app_id)
        if routing is None:
            return 0
        return sum(self._in_flight(backend.name, range(len(backend.servers))) for backend in routing.backends)

    def check_certificate(self, certificate: Certificate) -> None:
        """Raise UsageError for a certificate that HAProxy would not take."""
        haproxy_certificates.check(self._folder, self._program, certificate)

    def _let_go(self, routing: Routing) -> bool:
        """Return whether the draining servers of an app have no request in flight, and will get no more."""
        current, *replaced = self._master.workers()
        # A replaced worker cannot be told of a switch that came after it, and still takes requests on kept connections.
        return not (replaced and current.uptime <= KEEP_ALIVE_SECONDS) and not any(
            self._in_flight(backend.name, backend.draining) for backend in routing.backends if backend.draining
        )

    def _in_flight(self, backend: str, servers: Iterable[int]) -> int:
        total = 0
        for worker in self._master.workers():
            serving = self._master.requests_in_flight(worker, backend)
            total += sum(serving.get(server, 0) for server in servers)
        return total

    def _move(self, before: Mapping[int, Routing], after: Mapping[int, Routing], changed: int | None) -> None:
        """Apply `after`; where that fails, leave the files as they were, so that they say what the proxy does."""
        try:
            self._apply(after, changed)
        except BaseException:
            self._certificates.write(before)
            self._write(haproxy_config.render(before, self._listening))
            raise
        self._certificates.prune(after)

    def _apply(self, routings: Mapping[int, Routing], changed: int | None) -> None:
        """Write the configuration and make the proxy follow it. `changed` is the one app that differs, None for any."""
        workers = self._workers()
        if workers and self._master.description(workers[0]) == haproxy_config.shape(routings, self._listening):
            self._write(haproxy_config.render(routings, self._listening))
            for routing in routings.values() if changed is None else [routings[changed]]:
                self._master.tell(workers[0], haproxy_config.commands(routing))
            return
        if not workers:
            self._daemon.end_strays()
        routings = self._listenable(routings, changed, alive=bool(workers))
        digest = haproxy_config.shape(routings, self._listening)
        self._certificates.write(routings)
        self._write(haproxy_config.render(routings, self._listening))
        if workers:
            self._reload(digest)
        else:
            self._daemon.launch()
            workers = self._workers()
            if not workers:
                raise ProxyFailedError(f"HAProxy started in {self._folder} and ended at once; look at its log")
            if self._master.description(workers[0]) != digest:
                self._reload(digest)  # its keeper started it on the configuration before

    def _workers(self) -> list[Worker]:
        """Return the running proxy's workers, none if it does not run. Raises ProxyUnreachableError."""
        workers: list[Worker] = []

        def known() -> bool:
            try:
                workers[:] = self._master.workers()
            except ProxyUnreachableError:
                return not self.running  # else it is coming up, or going down
            return bool(workers)

        if self.running and not until(known):
            raise ProxyUnreachableError(
                f"HAProxy runs in {self._folder} without any worker; kill it, and it is started anew"
            )
        return workers

    def _listenable(
        self, routings: Mapping[int, Routing], changed: int | None, *, alive: bool
    ) -> Mapping[int, Routing]:
        """Return the routings without what other programs' ports keep from listening.

        A port of one app must not take all others down. It is looked for again at each reconciliation. Raises
        PortInUseError for the ports that all share, and for those of the app `changed`, whose operation is to know.
        """
        held = haproxy_config.listeners(self._text()) if alive else set()
        wanted = haproxy_config.addresses(routings.values(), self._listening)
        # Workers of a killed master hold their ports for a moment longer.
        patience = 0 if alive else 2
        taken = [each for each in sorted(wanted - held) if not until(partial(bindable, *each), patience)]
        own = set() if changed is None else routings[changed].route.ports
        for host, port in taken:
            told = f"another program listens on {host}:{port}, where the proxy should"
            if (host, port) in self._listening.addresses or port in own:
                raise PortInUseError(f"{told}; stop that program or choose another port")
            _log.error("an app does not answer at its port", error=told)
        gone = {port for _, port in taken}
        fewer = {app_id: routing.without(gone) for app_id, routing in routings.items()}
        return {app_id: routing for app_id, routing in fewer.items() if routing is not None}

    def _text(self) -> str:
        """Return the configuration file's text, empty where there is none."""
        try:
            return (self._folder / CONFIG_FILE).read_text()
        except FileNotFoundError:
            return ""

    def _write(self, text: str) -> None:
        """Write the configuration file, at once or not at all.

        It need not survive a power failure, since the proxy does not either: the records know all routes.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._folder / f"{CONFIG_FILE}.new"
        fresh.write_text(text)
        fresh.replace(self._folder / CONFIG_FILE)

    def _reload(self, digest: str) -> None:
        failed_before = self._master.failed_reloads()
        self._master.ask("reload")

        def settled() -> bool:
            try:
                workers = self._master.workers()
                return bool(workers) and (
                    self._master.description(workers[0]) == digest or self._master.failed_reloads() > failed_before
                )
            except ProxyUnreachableError:  # while the master replaces itself
                return False

        if not until(settled) or self._master.failed_reloads() > 0:
            reason = self._daemon.complaint() or "a port that it needs was taken meanwhile"
            raise ProxyFailedError(f"HAProxy did not take its new configuration and keeps the former one: {reason}")


def _by_destination(targets: Collection[Target] | Targets) -> Mapping[Destination, Collection[Target]]:
    return targets if isinstance(targets, Mapping) else {OWN: targets}
