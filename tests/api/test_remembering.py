"""An answer is given again only while it holds, and only to whoever got it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from console.api.remembering import SECONDS, Remembering


class Counting:
    """An application that answers how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.size = 1
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        number = self.asked
        await self.open.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": str(number).encode() * self.size})


async def ask(app: Remembering, path: str = "/operations/1", token: str = "a", **more: Any) -> bytes:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    headers = [(b"authorization", token.encode()), (b"host", b"x"), *more.get("headers", [])] if token else []
    scope = {
        "type": "http",
        "method": more.get("method", "GET"),
        "path": path,
        "query_string": more.get("query", b""),
        "scheme": "http",
        "headers": headers,
    }
    await app(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent)


def test_an_answer_holds_until_something_is_recorded() -> None:
    async def story() -> None:
        counting, generation = Counting(), [0]
        app = Remembering(counting, lambda: generation[0])
        assert [await ask(app) for _ in range(3)] == [b"1", b"1", b"1"]
        generation[0] += 1
        assert [await ask(app) for _ in range(2)] == [b"2", b"2"]

    asyncio.run(story())


def test_another_token_question_or_preference_is_another_request() -> None:
    async def story() -> None:
        counting = Counting()
        app = Remembering(counting, lambda: 0)
        answers = [
            await ask(app),
            await ask(app, token="b"),
            await ask(app, query=b"page=2"),
            await ask(app, headers=[(b"prefer", b"no_sensitive_extras=true")]),
        ]
        assert answers == [b"1", b"2", b"3", b"4"]
        assert await ask(app) == b"1"

    asyncio.run(story())


def test_nothing_is_remembered_that_changes_is_entered_in_the_audit_log_or_was_refused() -> None:
    async def story() -> None:
        counting = Counting()
        app = Remembering(counting, lambda: 0)
        for path in (
            "/configurations/1",
            "/settings/1",
            "/apps/1/configurations",
            "/operations/1/logs",
            "/tokens",
            "/",
        ):
            assert await ask(app, path) != await ask(app, path), path
        assert await ask(app, method="POST") != await ask(app, method="POST")
        assert await ask(app, token="") != await ask(app, token="")
        counting.status = 404
        assert await ask(app) != await ask(app)
        counting.status, counting.size = 200, 1 << 17
        assert await ask(app) != await ask(app)

    asyncio.run(story())


def test_whoever_asks_for_what_is_being_answered_waits_for_it() -> None:
    async def story() -> None:
        counting = Counting()
        counting.open.clear()
        app = Remembering(counting, lambda: 0)
        asking = [asyncio.create_task(ask(app)) for _ in range(10)]
        while not counting.asked:
            await asyncio.sleep(0)
        counting.open.set()
        assert await asyncio.gather(*asking) == [b"1"] * 10

    asyncio.run(story())


def test_nobody_waits_for_an_answer_that_is_made_anew_while_the_former_one_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        counting, generation, clock = Counting(), [0], [0.0]
        monkeypatch.setattr("console.api.remembering.time", SimpleNamespace(monotonic=lambda: clock[0]))
        app = Remembering(counting, lambda: generation[0])
        assert await ask(app) == b"1"
        clock[0] += SECONDS + 0.1
        counting.open.clear()
        anew = asyncio.create_task(ask(app))
        while counting.asked < 2:
            await asyncio.sleep(0)
        assert [await ask(app) for _ in range(3)] == [b"1", b"1", b"1"]
        # Not for long, and not once something was recorded: a login may have been revoked.
        generation[0] += 1
        waiting = asyncio.create_task(ask(app))
        await asyncio.sleep(0)
        assert not waiting.done()
        generation[0] -= 1
        clock[0] += 0.95 * SECONDS
        too_late = asyncio.create_task(ask(app))
        await asyncio.sleep(0)
        assert not too_late.done()
        counting.open.set()
        assert set(await asyncio.gather(anew, waiting, too_late)) == {b"2"}

    asyncio.run(story())


def test_what_is_refused_now_is_not_answered_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        counting, clock = Counting(), [0.0]
        monkeypatch.setattr("console.api.remembering.time", SimpleNamespace(monotonic=lambda: clock[0]))
        app = Remembering(counting, lambda: 0)
        assert await ask(app) == b"1"
        clock[0] += SECONDS + 0.1
        counting.status = 401
        assert [await ask(app) for _ in range(2)] == [b"2", b"3"]

    asyncio.run(story())


def test_what_was_recorded_while_an_answer_was_made_counts() -> None:
    async def story() -> None:
        counting, generation = Counting(), [0]
        counting.open.clear()
        app = Remembering(counting, lambda: generation[0])
        first = asyncio.create_task(ask(app))
        while not counting.asked:
            await asyncio.sleep(0)
        generation[0] += 1
        counting.open.set()
        assert await first == b"1"
        assert await ask(app) == b"2"

    asyncio.run(story())
