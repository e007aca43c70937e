"""An answer that is made while somebody reads it, and ends when they leave: an app's log, a command in a container.

What makes it blocks, so it runs on a thread of its own. No more of it waits than a little: a reader who is slow slows
down what is read.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from store.errors import CancelledError, SlipwayError

log = structlog.get_logger()

MOST_WAITING = 64
"""Pieces of text that wait for their reader; each is at most what one read brings, some 16 KiB."""

SLICE_SECONDS = 0.2
"""How soon a writer that waits for its reader notices that there is none any more."""

Write = Callable[[str], None]


@dataclass(frozen=True)
class Live:
    """What to do: write to standard output and standard error until the event says that nobody reads.

    `run` returns the exit status. It may raise SlipwayError, which whoever reads is told.
    """

    run: Callable[[Write, Write, threading.Event], int]


async def frames(live: Live) -> AsyncIterator[dict[str, Any]]:
    """Yield an answer's frames (`hooks.engine_room`); closing the iterator ends what makes them."""
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    room = threading.Semaphore(MOST_WAITING)
    gone = threading.Event()

    def put(**frame: str | int) -> None:
        while not room.acquire(timeout=SLICE_SECONDS):
            if gone.is_set():
                raise CancelledError("nobody reads any more")
        if not gone.is_set():
            loop.call_soon_threadsafe(made.put_nowait, frame)

    def work() -> None:
        try:
            status = live.run(lambda text: put(out=text), lambda text: put(err=text), gone)
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
