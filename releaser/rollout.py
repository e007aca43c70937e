"""One rollout: from the release that runs to the next one, all services together or none.

In order: the new routed containers start beside the old ones and become healthy; the old background containers stop and
the new ones settle, since two generations of a worker or a clock must not overlap unless their owner says so; the route
moves. Whoever asked for
the rollout then commits. After that `finish` drains and removes the old; before it, `undo` brings everything back.

A process that dies anywhere in between leaves what `releaser.restore` mends: every container carries the number of the
operation that made it, and the records say which operation is the current one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext

import structlog

from releaser.container import Container
from releaser.destinations import targets, unled
from releaser.engine import Engine, EngineRefusedError
from releaser.health import FIRST_PAUSE_SECONDS, OVERLAPPING_SECONDS, SETTLED_SECONDS, Nursery, Policy, Say
from releaser.release import Release
from releaser.route import Destination, Route, Target
from releaser.router import Router
from releaser.services import Image, Service, services

_log = structlog.get_logger()

EXIT_SECONDS = 1.0
"""How long the engine may take to tell that a container has exited, once it refuses to change that container."""

Step = Callable[[str], AbstractContextManager[object]]
"""Makes what is put around a step of that name. Between two steps nothing changes on the engine or the proxy."""


class Rollout:
    """The rollout of one release. Its attributes tell the caller what became of it."""

    def __init__(
        self,
        engine: Engine,
        proxy: Router,
        release: Release,
        *,
        say: Say,
        cancelled: threading.Event,
        step: Step = nullcontext,
    ) -> None:
        self.release = release
        self.routed: Service | None = None
        """The service that answers at the app's own address, None where the release has no such service."""
        self._services: list[Service] = []
        self.containers: list[Container] = []
        """The new containers."""
        self._engine = engine
        self._proxy = proxy
        self._say = say
        self._step = step
        self._nursery = Nursery(engine, say=say, cancelled=cancelled)
        self._old: list[Container] = []
        self._stopped: list[Container] = []
        self._former: tuple[Route, dict[Destination, list[Target]]] | None = None
        self._moved = False

    def advance(self) -> None:
        """Bring the new containers up and move the route to them.

        Raises SlipwayError; then, or when anything else goes wrong, call `undo`.
        """
        policy = Policy.of(self.release.settings)
        image = self._engine.image(self.release.image)
        self._services = wanted = services(self.release, image)
        self.routed = next((service for service in wanted if service.own and service.port is not None), None)
        background = [service for service in wanted if service.port is None]
        overlapping = [
            service
            for service in background
            if self.release.force_zero_downtime or service.settings.force_zero_downtime
        ]
        self._nursery.stop_if_cancelled()
        with self._step("take_stock"):
            self._take_stock()
        if self._proxy.publishes_ports:
            with self._step("stop_published"):
                self._stop_published()
        with self._step("start"):
            self._start([service for service in wanted if service.port is not None])
        with self._step("health"):
            self._wait_for_routed(policy)
        for service in overlapping:
            with self._step("start_overlapping"):
                self._wait_for_background(service, self._start([service]), image, policy, OVERLAPPING_SECONDS)
        with self._step("stop_background"):
            kept = {service.name for service in wanted if service.port is not None or service in overlapping}
            self._stop_background(kept)
        with self._step("start_background"):
            replaced = [(service, self._start([service])) for service in background if service not in overlapping]
            for service, containers in replaced:
                self._wait_for_background(service, containers, image, policy, SETTLED_SECONDS)
        if background:
            self._nursery.watch()  # what has just answered need not be asked again, and visitors are waiting for it
        with self._step("route"):
            self._move_route()
        with self._step("keep_running"):
            for container in self.containers:
                self._keep_running(container)
            self._nursery.watch()

    def _keep_running(self, container: Container) -> None:
        try:
            self._engine.keep_running(container.id)
        except EngineRefusedError:
            # It may be exiting in this very moment; then its owner has to know just that, as soon as the engine does.
            end = time.monotonic() + EXIT_SECONDS
            while time.monotonic() < end:
                self._nursery.watch()
                time.sleep(FIRST_PAUSE_SECONDS)
            raise

    def finish(self) -> None:
        """Drain and remove the old containers. What fails here is left for `restore`, since the release stands."""
        with self._step("drain"):
            self._attempt("drain", self._proxy.drain, self.release.app_id)
        with self._step("remove_former"):
            for container in self._old:
                self._attempt("stop", self._engine.stop, container.id)
                self._attempt("remove", self._engine.remove, container.id)

    def undo(self) -> None:
        """Bring back what was before. What fails here is left for `restore`."""
        if self._moved:
            with self._step("undo_route"):
                self._attempt("route", self._move_back)
        with self._step("undo_background"):
            for container in self.containers:
                if container.port is None or container.published:
                    self._attempt("remove", self._engine.remove, container.id)
            for container in self._stopped:
                self._attempt("start", self._engine.start, container.id)
        with self._step("undo_start"):
            if self._moved:
                self._attempt("drain", self._proxy.drain, self.release.app_id)
            for container in self.containers:
                self._attempt("remove", self._engine.remove, container.id)

    def _take_stock(self) -> None:
        for container in self._engine.containers(self.release.instance, self.release.app_id):
            if container.operation == self.release.operation:
                self._engine.remove(container.id)  # of an earlier attempt at this very operation, cut short
            else:
                self._old.append(container)

    def _start(self, wanted: Sequence[Service]) -> list[Container]:
        before = len(self.containers)
        for service in wanted:
            count = service.settings.container_count
            if count:
                self._say(f"{service.name}: starting" + (f" {count} containers" if count > 1 else ""))
            for index in range(count):
                self._nursery.stop_if_cancelled()
                published = self._proxy.published(self.release.route, service, index)
                container = self._engine.run(self.release, service, index, self._proxy.addresses(), published)
                self.containers.append(container)
                self._nursery.add(container)
        return self.containers[before:]

    def _wait_for_routed(self, policy: Policy) -> None:
        if not policy.seconds:
            self._nursery.wait_settled(self.containers)
            return
        over_http = {service.name for service in self._services if service.http}
        for container in self.containers:
            if container.port is None:
                continue
            if container.service in over_http:
                host = self.release.route.host or "localhost"
                self._nursery.wait_answering(container, container.port, policy, host)
            else:
                self._nursery.wait_listening(container, container.port, policy)

    def _wait_for_background(
        self, service: Service, containers: Sequence[Container], image: Image, policy: Policy, seconds: float
    ) -> None:
        if image.health_check and policy.seconds and not service.settings.simple_health_check:
            for container in containers:
                self._nursery.wait_healthy(container, policy)
        else:
            self._nursery.wait_settled(containers, seconds)

    def _stop_background(self, but: Collection[str]) -> None:
        for container in self._old:
            if container.port is None and container.running and container.service not in but:
                self._say(f"{container.title}: stopping release {container.release}")
                self._stopped.append(container)
                self._engine.stop(container.id)

    def _stop_published(self) -> None:
        """Have the app's port free for the new container."""
        for container in self._old:
            if container.published and container.running:
                self._say(f"{container.title}: stopping release {container.release}; nobody answers until the next one")
                self._stopped.append(container)
                self._engine.stop(container.id)

    def _move_route(self) -> None:
        app, route = self.release.app_id, self.release.route
        former = self._proxy.routes().get(app)
        if self.routed is None:
            self._say(
                "no service gets an address: the image exposes no TCP port; EXPOSE in the Dockerfile, or PORT in the "
                "config, gives one"
            )
        for line in unled(route, self._services):
            self._say(line)
        self._former = (former.route, former.leads) if former else None
        self._moved = True
        led = targets(route, self._services, self.containers)
        self._proxy.lead(app, route, led)
        for service in self._services:
            if service.port is None:
                continue
            if service.settings.container_count:
                self._say(f"{service.name}: takes the requests now")
            else:
                self._say(f"{service.name}: is scaled to 0 containers, so nobody answers requests")

    def _move_back(self) -> None:
        if self._former is None:
            self._proxy.forget(self.release.app_id)
        else:
            self._proxy.lead(self.release.app_id, *self._former)

    def _attempt(self, step: str, action: Callable[..., None], *arguments: str | int) -> None:
        try:
            action(*arguments)
        except Exception as error:  # every step must be tried, and none may hide why the rollout ended
            _log.warning("rollout left something behind", app=self.release.app, step=step, error=str(error))
