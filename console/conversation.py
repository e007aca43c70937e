"""A request whose body goes on while it is answered: lines of JSON both ways (`hooks.engine_room`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from console.typed import Typed

FRAMES = "application/x-ndjson"
"""The media type of frames."""


def line(frame: Mapping[str, Any]) -> bytes:
    """Return a frame as it is sent."""
    return json.dumps(frame).encode() + b"\n"


class Lines:
    """The lines of a request's body, as they come. `receive` is nobody else's to call meanwhile."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._buffer = b""
        self._ended = False
        self.left = False
        """Whether the caller has gone."""

    async def next(self) -> Any:
        """Return the next line's value, or None when no more is coming. Raises ValueError for what is no JSON."""
        while b"\n" not in self._buffer and not self._ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.left = self._ended = True
                return None
            self._buffer += message.get("body", b"")
            self._ended = not message.get("more_body", False)
        text, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(text) if text.strip() else None

    async def gone(self) -> None:
        """Return when the caller has left; what else they send is thrown away."""
        while not self.left:
            self.left = (await self._receive())["type"] == "http.disconnect"


class Conversation(Response):
    """Answers with frames; what comes meanwhile is `typed`. Both end when the caller leaves."""

    def __init__(self, lines: Lines, frames: AsyncGenerator[dict[str, Any]], typed: Typed) -> None:
        super().__init__(media_type=FRAMES)
        self._lines = lines
        self._frames = frames
        self._typed = typed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames as they are made."""
        del self.headers["content-length"]  # there is no end in sight
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        telling = asyncio.ensure_future(self._tell(send))
        listening = asyncio.ensure_future(self._listen())
        try:
            await asyncio.wait({telling, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, listening):
                task.cancel()
            # So that whatever makes the frames has ended it, and a failure of either is told.
            outcomes = await asyncio.gather(telling, listening, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _tell(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                await send({"type": "http.response.body", "body": line(frame), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _listen(self) -> None:
        while (frame := await self._lines.next()) is not None:
            self._typed.feed(frame)
        self._typed.end()
        await self._lines.gone()
