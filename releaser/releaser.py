"""The room's front: roll out a release, restore what a crash left, take an app or everything away."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from releaser.container import Container
from releaser.engine import Engine
from releaser.haproxy import Proxy
from releaser.health import Say
from releaser.release import Release
from releaser.restore import restore
from releaser.rollout import Rollout
from store.errors import SlipwayError


class Releaser:
    """What runs for one instance on one engine. It may be shared by threads, one rollout per app at a time.

    `engine` is the engine's URL, None for the default socket.
    """

    def __init__(self, *, engine: str | None, instance: str, proxy: Proxy) -> None:
        self._engine = engine
        self._instance = instance
        self._proxy = proxy

    @contextmanager
    def rollout(self, release: Release, *, say: Say, cancelled: threading.Event) -> Iterator[Rollout]:
        """Bring a release up around the caller's commit.

        On entry its containers are up and healthy, and the route leads to them; the former ones still run. A normal
        end drains and removes the former ones. An exception, from the body too, brings everything back as it was.
        Raises SlipwayError: what is wrong with the release, or that it was cancelled.
        """
        if release.instance != self._instance:
            raise ValueError(f"a release of {release.instance} is none of {self._instance}")
        with Engine(self._engine) as engine:
            rollout = Rollout(engine, self._proxy, release, say=say, cancelled=cancelled)
            try:
                rollout.advance()
                yield rollout
            except BaseException:
                rollout.undo()
                raise
            rollout.finish()

    def restore(self, current: Sequence[Release]) -> dict[int, SlipwayError]:
        """Make the current releases run, and nothing else of this instance; return what went wrong, by app id.

        To be called while no rollout is under way: after a start, which may follow a crash.
        """
        with Engine(self._engine) as engine:
            return restore(engine, self._proxy, self._instance, current)

    def running(self, app_id: int) -> list[Container]:
        """Return an app's containers, whatever their state."""
        with Engine(self._engine) as engine:
            return engine.containers(self._instance, app_id)

    def remove(self, app_id: int) -> None:
        """Take an app's route and containers away."""
        self._proxy.forget(app_id)
        with Engine(self._engine) as engine:
            for container in engine.containers(self._instance, app_id):
                engine.stop(container.id)
                engine.remove(container.id)

    def remove_everything(self) -> None:
        """Take away all that this instance runs: the proxy, every app's containers, the network."""
        self._proxy.remove()
        with Engine(self._engine) as engine:
            for container in engine.containers(self._instance):
                engine.stop(container.id)
                engine.remove(container.id)
            engine.remove_network(self._instance)
