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
from releaser.rollout import CONTAINERS_PER_SERVICE
from releaser.services import services
from store.errors import SlipwayError

_log = structlog.get_logger()


def restore(engine: Engine, proxy: Proxy, instance: str, current: Sequence[Release]) -> dict[int, SlipwayError]:
    """Make the current releases run, and nothing else; return what went wrong, by app id.

    Raises SlipwayError where nothing can be done at all: the engine or the proxy is out of reach.
    """
    found = engine.containers(instance)
    operations = {release.app_id: release.operation for release in current}
    leftover = [each for each in found if operations.get(each.app_id) != each.operation]
    # First, since two generations of a worker or a clock must not overlap.
    _remove(engine, (container for container in leftover if container.port is None))
    wrong: dict[int, SlipwayError] = {}
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
        if targets:
            routes[release.app_id] = (release.route, targets)
    proxy.lead_all(routes)
    for app_id in routes:
        proxy.drain(app_id)
    _remove(engine, (container for container in leftover if container.port is not None))
    return wrong


def _running(engine: Engine, proxy: Proxy, release: Release, ours: Iterable[Container]) -> list[Container]:
    """Return the release's containers, all running: found, started, or created again."""
    standing = {(container.service, container.index): container for container in ours}
    running = []
    for service in services(release, engine.image(release.image)):
        for index in range(CONTAINERS_PER_SERVICE):
            container = standing.get((service.name, index))
            if container is not None and not container.running:
                try:
                    engine.start(container.id)
                except SlipwayError:
                    engine.remove(container.id)
                    container = None
            if container is None:
                container = engine.run(release, service, index, proxy.addresses())
            engine.keep_running(container.id)
            running.append(container)
    return running


def _remove(engine: Engine, containers: Iterable[Container]) -> None:
    for container in containers:
        engine.stop(container.id)
        engine.remove(container.id)
