"""After a crash: make containers and routes agree with the records again.

The records are right, whatever the engine shows: what belongs to another operation than an app's current one is a
rollout that never came to its commit, or one whose end was cut short. Only what carries this instance's label is
touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from releaser.container import Container
from releaser.engine import Engine
from releaser.haproxy import Proxy
from releaser.haproxy_config import Target
from releaser.release import Release, Route
from releaser.services import Service, services
from store.errors import SlipwayError

_log = structlog.get_logger()


def restore(engine: Engine, proxy: Proxy, instance: str, current: Sequence[Release]) -> dict[int, SlipwayError]:
    """Make the current releases run, and nothing else; return what went wrong, by app id.

    To be called while nothing else happens. Raises SlipwayError where nothing can be done at all: the engine or the
    proxy is out of reach.
    """
    for identifier in engine.one_offs(instance):
        engine.remove(identifier)
    found = engine.containers(instance)
    operations = {release.app_id: release.operation for release in current}
    leftover = [each for each in found if operations.get(each.app_id) != each.operation]
    # First, since two generations of a worker or a clock must not overlap.
    _remove(engine, (container for container in leftover if container.port is None))
    wrong: dict[int, SlipwayError] = {}
    led = proxy.routes()
    routes: dict[int, tuple[Route, list[Target]]] = {}
    for release in current:
        ours = [each for each in found if each.app_id == release.app_id and each.operation == release.operation]
        try:
            running = _running(engine, proxy, release, ours)
        except SlipwayError as error:
            wrong[release.app_id] = error
            _log.warning("a release could not be restored", app=release.app, error=str(error))
            running = [container for container in ours if container.running]
        targets = [Target(each.address, each.port) for each in running if each.port is not None]
        # Scaled to nothing, it goes on telling its visitors so.
        if targets or release.app_id in led:
            routes[release.app_id] = (release.route, targets)
    proxy.lead_all(routes)
    for app_id in routes:
        proxy.drain(app_id)
    _remove(engine, (container for container in leftover if container.port is not None))
    return wrong


def mend(engine: Engine, proxy: Proxy, release: Release) -> None:
    """Make one app's current release run, and nothing else of that app, while no operation of that app is under way.

    Its containers for one command are left alone: somebody may be using them. Raises SlipwayError.
    """
    found = engine.containers(release.instance, release.app_id)
    _remove(engine, (each for each in found if each.operation != release.operation))
    running = _running(engine, proxy, release, [each for each in found if each.operation == release.operation])
    targets = [Target(each.address, each.port) for each in running if each.port is not None]
    led = proxy.routes().get(release.app_id)
    if not targets and led is None:
        return
    if led is None or led.route != release.route or set(led.targets) != set(targets):
        proxy.lead(release.app_id, release.route, targets)
        proxy.drain(release.app_id)


def _running(engine: Engine, proxy: Proxy, release: Release, ours: Iterable[Container]) -> list[Container]:
    """Return the release's containers, all running: found, started, or created again."""
    standing = {(container.service, container.index): container for container in ours}
    running = []
    for service in services(release, engine.image(release.image)):
        for index in range(service.settings.container_count):
            running.append(_standing(engine, proxy, release, service, index, standing.pop((service.name, index), None)))
    _remove(engine, standing.values())
    return running


def _standing(
    engine: Engine, proxy: Proxy, release: Release, service: Service, index: int, container: Container | None
) -> Container:
    if container is not None and container.running:
        return container
    if container is not None:
        try:
            engine.start(container.id)
        except SlipwayError:
            engine.remove(container.id)
            container = None
    if container is None:
        container = engine.run(release, service, index, proxy.addresses())
    engine.keep_running(container.id)
    _log.warning("a container is running again", app=release.app, container=container.title)
    return container


def _remove(engine: Engine, containers: Iterable[Container]) -> None:
    for container in containers:
        engine.stop(container.id)
        engine.remove(container.id)
