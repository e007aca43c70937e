"""After a crash: make containers and routes agree with the records again.

The records are right, whatever the engine shows: what belongs to another operation than an app's current one is a
rollout that never came to its commit, or one whose end was cut short. Only what carries this instance's label is
touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import structlog

from releaser.container import Container
from releaser.destinations import targets
from releaser.engine import Engine
from releaser.release import Release
from releaser.route import OWN, Destination, Route, Target
from releaser.router import Router
from releaser.services import Service, services
from store.errors import SlipwayError

_log = structlog.get_logger()


def restore(
    engine: Engine, proxy: Router, instance: str, current: Sequence[Release], idle: Mapping[int, Route]
) -> dict[int, SlipwayError]:
    """Make the current releases run, and nothing else; return what went wrong, by app id.

    `idle` are the routes of apps that have no release: there their visitors are told so. To be called while nothing
    else happens. Raises SlipwayError where nothing can be done at all: the engine or the proxy is out of reach.
    """
    for identifier in engine.one_offs(instance):
        engine.remove(identifier)
    found = engine.containers(instance)
    operations = {release.app_id: release.operation for release in current}
    leftover = [each for each in found if operations.get(each.app_id) != each.operation]
    # First, since two generations of a worker or a clock must not overlap.
    _remove(engine, (container for container in leftover if container.port is None or proxy.publishes_ports))
    wrong: dict[int, SlipwayError] = {}
    routes: dict[int, tuple[Route, dict[Destination, list[Target]]]] = {
        app_id: (route, {}) for app_id, route in idle.items()
    }
    for release in current:
        ours = [each for each in found if each.app_id == release.app_id and each.operation == release.operation]
        try:
            known = services(release, engine.image(release.image))
            running = _running(engine, proxy, release, known, ours)
        except SlipwayError as error:
            wrong[release.app_id] = error
            _log.warning("a release could not be restored", app=release.app, error=str(error))
            running = [container for container in ours if container.running]
            # Without the image nothing tells what the services are, but the containers know their own ports.
            led = {OWN: [Target(each.address, each.port) for each in running if each.port is not None]}
        else:
            led = targets(release.route, known, running)
        # Scaled to nothing, it goes on telling its visitors so.
        routes[release.app_id] = (release.route, led)
    proxy.lead_all(routes)
    for app_id in routes:
        proxy.drain(app_id)
    _remove(engine, (container for container in leftover if container.port is not None))
    return wrong


def mend(engine: Engine, proxy: Router, release: Release) -> None:
    """Make one app's current release run, and nothing else of that app, while no operation of that app is under way.

    Its containers for one command are left alone: somebody may be using them. Raises SlipwayError.
    """
    found = engine.containers(release.instance, release.app_id)
    _remove(engine, (each for each in found if each.operation != release.operation))
    known = services(release, engine.image(release.image))
    ours = [each for each in found if each.operation == release.operation]
    wanted = targets(release.route, known, _running(engine, proxy, release, known, ours))
    lead(proxy, release.app_id, release.route, wanted)


def lead(proxy: Router, app_id: int, route: Route, wanted: Mapping[Destination, Sequence[Target]]) -> None:
    """Have an app answer at a route, unless it does so already. Raises SlipwayError."""
    led = proxy.routes().get(app_id)
    there = {destination: set(known) for destination, known in (led.leads if led else {}).items()}
    if led is None or led.route != route or there != {each: set(wanted.get(each, ())) for each in route.destinations}:
        proxy.lead(app_id, route, wanted)
        proxy.drain(app_id)


def _running(
    engine: Engine, proxy: Router, release: Release, known: Iterable[Service], ours: Iterable[Container]
) -> list[Container]:
    """Return the release's containers, all running: found, started, or created again."""
    standing = {(container.service, container.index): container for container in ours}
    running = []
    for service in known:
        for index in range(service.settings.container_count):
            running.append(_standing(engine, proxy, release, service, index, standing.pop((service.name, index), None)))
    _remove(engine, standing.values())
    return running


def _standing(
    engine: Engine, proxy: Router, release: Release, service: Service, index: int, container: Container | None
) -> Container:
    published = proxy.published(release.route, service, index)
    if container is not None and container.published != published:  # the server has another router than before
        engine.remove(container.id)
        container = None
    if container is not None and container.running:
        return container
    if container is not None:
        try:
            engine.start(container.id)
        except SlipwayError:
            engine.remove(container.id)
            container = None
    if container is None:
        container = engine.run(release, service, index, proxy.addresses(), published)
    engine.keep_running(container.id)
    _log.warning("a container is running again", app=release.app, container=container.title)
    return container


def _remove(engine: Engine, containers: Iterable[Container]) -> None:
    for container in containers:
        engine.stop(container.id)
        engine.remove(container.id)
