"""An answer that is made while somebody reads it, and ends when they leave: an app's log, a command in a container.

What makes it blocks, so it runs on a thread of its own. No more of it waits than a little: a reader who is slow slows
down what is read.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from console.typed import Typed
from releaser.attached import WriteBytes
from store.errors import CancelledError, SlipwayError

log = structlog.get_logger()

MOST_WAITING = 64
"""Pieces of text that wait for their reader; each is at most what one read brings, some 16 KiB."""

MOST_BYTES = 1 << 16
"""Bytes of a program's output that go into one frame."""

SLICE_SECONDS = 0.2
"""How soon a writer that waits for its reader notices that there is none any more."""

Write = Callable[[str], None]


@dataclass(frozen=True)
class Live:
    """What to do: write to standard output and standard error until the event says that nobody reads.

    `run` returns the exit status. It may raise SlipwayError, which whoever reads is told.
    """

    run: Callable[[Write, Write, threading.Event], int]


@dataclass(frozen=True)
class Attached:
    """What to do: have a program read what is typed and write bytes, until the event says that nobody is there.

    `run` returns the exit status. It may raise SlipwayError, which whoever is there is told.
    """

    run: Callable[[Typed, WriteBytes, WriteBytes, threading.Event], int]


async def frames(live: Live | Attached, typed: Typed) -> AsyncGenerator[dict[str, Any]]:
    """Yield an answer's frames (`hooks.engine_room`); closing the iterator ends what makes them.

    `typed` is what comes meanwhile.
    """
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    room = threading.Semaphore(MOST_WAITING)
    gone = threading.Event()

    def put(**frame: str | int | bool) -> None:
        while not room.acquire(timeout=SLICE_SECONDS):
            if gone.is_set():
                raise CancelledError("nobody reads any more")
        if not gone.is_set():
            loop.call_soon_threadsafe(made.put_nowait, frame)

    def attached(live: Attached) -> int:
        typed.taken = lambda count: put(taken=count)
        put(attach=True)

        def put_raw(name: str, data: bytes) -> None:
            for start in range(0, len(data), MOST_BYTES):
                put(**{name: base64.b64encode(data[start : start + MOST_BYTES]).decode()})

        return live.run(typed, partial(put_raw, "raw"), partial(put_raw, "raw_err"), gone)

    def work() -> None:
        try:
            if isinstance(live, Live):
                status = live.run(lambda text: put(out=text), lambda text: put(err=text), gone)
            else:
                status = attached(live)
        except SlipwayError as error:
            if gone.is_set():
                return
            put(err=f"Error: {error}\n")
            status = error.exit_status
        except Exception:
            log.exception("a live answer met a defect")
            put(err="Error: the server met a defect of its own; its log tells more\n")
            status = 1
        put(exit=status)

    threading.Thread(target=work, name="live answer").start()
    try:
        while True:
            frame = await made.get()
            room.release()
            yield frame
            if "exit" in frame:
                return
    finally:
        gone.set()
