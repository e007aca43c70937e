"""Answers that are asked for again and again, and still hold: every client polls its operation, once a second.

An answer holds as long as nothing has been recorded since it was begun, and for a second. It is remembered for the very
request that it answered, token included. Requests for what is just being answered wait for that answer; if there is one
that was good a moment ago, and nothing has been recorded since, they take that instead.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = 1.0
"""How long an answer may be given again, and how much longer while the next one is being made.

A token that expires meanwhile is good for that much longer. A revoked one is not: that is recorded.
"""

MOST = 1000
"""Answers that are remembered at once."""

MOST_BYTES = 1 << 16
"""Of an answer; larger ones are made anew."""

_PATHS = re.compile(
    rb"/(?:accounts|apps|find|operations|reauthenticate_organizations|services|stacks|vhosts)(?:/\d+)?"
    rb"(?:/(?:account|app|apps|operations|services|service_sizing_policies|ssh_portal_connections|vhosts))?"
)
"""What is read from the records alone. Config is not among it: whoever looks at values is entered in the audit log."""

_MATTERS = frozenset({b"authorization", b"host", b"prefer"})
"""The headers that an answer depends on."""

_Key = tuple[object, ...]


@dataclass
class _Answer:
    """An answer as it was sent, or is being made."""

    generation: int
    until: float
    messages: list[Message] = field(default_factory=list)
    bytes: int = 0

    @property
    def complete(self) -> bool:
        """Whether it is all there, good, and small enough to be kept."""
        return (
            len(self.messages) > 1
            and self.messages[0].get("status") == 200
            and not self.messages[-1].get("more_body", False)
            and self.bytes <= MOST_BYTES
        )


class Remembering:
    """Wraps an application; `generation` tells how often something has been recorded."""

    def __init__(self, app: ASGIApp, generation: Callable[[], int]) -> None:
        self._app = app
        self._generation = generation
        self._answers: dict[_Key, _Answer] = {}
        self._being_made: dict[_Key, asyncio.Future[None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request from memory, or by the application."""
        key = _key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        while True:
            known, made = self._answers.get(key), self._being_made.get(key)
            # Otherwise all who ask at the moment when it is made anew would wait, once a second.
            until = known.until + (SECONDS if made else 0) if known else 0
            if known and known.generation == self._generation() and until > time.monotonic():
                for message in known.messages:
                    await send(message)
                return
            if made is None:
                break
            await asyncio.shield(made)
        await self._make(key, scope, receive, send)

    async def _make(self, key: _Key, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(self._generation(), time.monotonic() + SECONDS)
        made = self._being_made[key] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            if not made.done():
                del self._being_made[key]
                made.set_result(None)

        async def keep(message: Message) -> None:
            answer.bytes += len(message.get("body", b""))
            if answer.bytes <= MOST_BYTES:
                answer.messages.append(message)
            if answer.complete:
                self._answers.pop(key, None)
                while len(self._answers) >= MOST:
                    del self._answers[next(iter(self._answers))]
                self._answers[key] = answer
                # Before it is sent: nobody waits for a client that does not read.
                settle()
            await send(message)

        try:
            await self._app(scope, receive, keep)
        finally:
            if not made.done():
                self._answers.pop(key, None)
            settle()


def _key(scope: Scope) -> _Key | None:
    """Return what an answer depends on; None for a request whose answer is not to be remembered."""
    if scope["type"] != "http" or scope["method"] != "GET" or not _PATHS.fullmatch(scope["path"].encode()):
        return None
    headers = tuple((name, value) for name, value in scope["headers"] if name in _MATTERS)
    if not any(name == b"authorization" for name, _ in headers):
        return None
    return (scope["scheme"], scope["path"], scope["query_string"], headers)
