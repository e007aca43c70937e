"""What an app's containers write, as the engine keeps it, read and followed over all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from releaser.container import Container
from releaser.engine import Engine, EngineRefusedError, Output
from store.errors import SlipwayError

LOOK_SECONDS = 1.0
"""How soon the containers of a next release are noticed."""


GOING = frozenset({"removing", "dead"})
"""States of a container that is being removed (Docker Engine API, ContainerSummary)."""


class Sink(Protocol):
    """Takes what one container writes."""

    def feed(self, chunk: bytes) -> None:
        """Take some more."""

    def end(self) -> None:
        """Note that there is no more."""


def read(
    url: str | None,
    instance: str,
    app_id: int,
    *,
    lines: int,
    follow: bool,
    wanted: Callable[[Container], bool],
    sink: Callable[[Container], Sink],
    gone: threading.Event,
) -> None:
    """Pass on the last `lines` lines of each container that is `wanted`, and with `follow` what comes until `gone`.

    Each container has a `sink` of its own, used on a thread of its own. Raises SlipwayError where the engine fails.
    """
    readers: dict[str, _Reader] = {}
    ended: dict[str, float] = {}
    try:
        with Engine(url) as engine:
            while not gone.is_set():
                for reader in [each for each in readers.values() if each.over.is_set()]:
                    del readers[reader.container.id]
                    ended[reader.container.id] = time.time()
                for container in engine.containers(instance, app_id):
                    if container.id in readers or not wanted(container) or container.state == "created":
                        continue
                    if container.id in ended and not container.running:
                        continue
                    # One that is read again has come up again: the engine ends an answer when a container exits.
                    since = ended.get(container.id)
                    try:
                        output = engine.log(container.id, lines=lines, follow=follow, since=since)
                    except EngineRefusedError:
                        if _stands(engine, instance, app_id, container):
                            raise
                        continue  # the release before it is just being removed
                    readers[container.id] = _Reader(container, output, sink(container))
                if not follow:
                    for reader in readers.values():
                        reader.join(gone)
                    return
                gone.wait(LOOK_SECONDS)
    finally:
        for reader in readers.values():
            reader.close()


def _stands(engine: Engine, instance: str, app_id: int, container: Container) -> bool:
    found = [each for each in engine.containers(instance, app_id) if each.id == container.id]
    return any(each.state not in GOING for each in found)


class _Reader:
    """One container's reader."""

    def __init__(self, container: Container, output: Output[bytes], sink: Sink) -> None:
        self.container = container
        self.over = threading.Event()
        self._output = output
        self._sink = sink
        self._thread = threading.Thread(target=self._read, name=f"log of {container.id[:12]}")
        self._thread.start()

    def join(self, gone: threading.Event) -> None:
        while not (self.over.is_set() or gone.is_set()):
            self.over.wait(LOOK_SECONDS)

    def close(self) -> None:
        self._output.close()
        self._thread.join()

    def _read(self) -> None:
        try:
            for chunk in self._output:
                self._sink.feed(chunk)
            self._sink.end()
        except SlipwayError:
            pass  # the container, the engine or the reader has gone; whoever looks for containers meets the reason
        finally:
            self.over.set()
