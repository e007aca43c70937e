"""One command in a container that is thrown away: a hook of a release, or what somebody wants to look up.

It gets the release's image, config, network and limits, but none of its services' names: no route ever leads to it, and
no comparison with the records takes it for a service's container.
"""

from __future__ import annotations

import codecs
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial

from releaser.engine import Engine, State
from releaser.release import Release
from releaser.services import Service
from store.errors import CancelledError, SlipwayError

SLICE_SECONDS = 0.1
"""How soon a command notices that it shall end."""

Write = Callable[[str], None]
"""Takes some text, as it comes."""


class OutOfTimeError(SlipwayError):
    """A command ran for longer than it may. It was killed."""


def run_once(
    engine: Engine,
    release: Release,
    name: str,
    command: Sequence[str],
    *,
    out: Write,
    err: Write,
    cancelled: threading.Event,
    seconds: float | None,
    avoid: Collection[str] = (),
    left: Callable[[str], None] = lambda _identifier: None,
) -> State:
    """Run `command` (words for the image) in a new container and return how it ended; the container is gone then.

    What it writes is passed on as text. `name` says what it is for, and becomes `APTIBLE_PROCESS_TYPE`. Raises
    CancelledError when `cancelled` is set meanwhile and OutOfTimeError after `seconds` (None: no limit): the command
    is killed at once, as SIGKILL does. Raises EngineUnreachableError, EngineRefusedError and VariableError as well.
    `left` is told of a container that the engine does not remove.
    """
    decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(2)]
    written: Iterable[tuple[bytes | None, bytes | None]] = ()

    def begin(identifier: str) -> None:
        nonlocal written
        written = engine.attach(identifier)
        engine.start(identifier)

    identifier = engine.run_one_off(release, Service(name, tuple(command)), avoid, begin)
    try:
        with Limit(partial(kill, engine.url, identifier), cancelled, seconds) as limit:
            for pair in written:
                for chunk, decoder, write in zip(pair, decoders, (out, err), strict=True):
                    if chunk and (text := decoder.decode(chunk)):
                        write(text)
            state = engine.wait(identifier)
        if cancelled.is_set():
            raise CancelledError(f"cancelled while {name} was running; what it had done by then stays done")
        if limit.over:
            raise OutOfTimeError(f"{name} was killed since it ran for more than {seconds:.0f} s; make it faster")
        return state
    finally:
        try:
            engine.remove(identifier)
        except SlipwayError:
            left(identifier)
            raise


def kill(url: str, identifier: str) -> None:
    """Kill a container, from any thread."""
    # With a client of its own, since this is not the thread that reads.
    with suppress(SlipwayError), Engine(url) as engine:  # it may just have ended by itself
        engine.kill(identifier)


class Limit:
    """Watches over a block, and calls `end` when it is cancelled or takes too long."""

    def __init__(self, end: Callable[[], None], cancelled: threading.Event, seconds: float | None) -> None:
        self.over = False
        self._end = end
        self._cancelled = cancelled
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="one-off limit", daemon=True)

    def __enter__(self) -> Limit:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._left.wait(SLICE_SECONDS):
            self.over = self._deadline is not None and time.monotonic() > self._deadline
            if self.over or self._cancelled.is_set():
                self._end()  # and again, until it has: the engine may just be away
