"""The engine room's HTTP interface, as its front doors know it, and what who watches it asks.

`hooks.engine_room` describes the frames of streamed answers. Plain questions and commands run on threads, since records
and parsing block. Logs are followed on the event loop, so that any number of pushers can wait without holding a thread
each.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import structlog
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from console import access, live, portal, sessions
from console.conversation import FRAMES, Conversation, Lines, line
from console.deeds import named_app
from console.grammar import LOCAL, Call, Outcome, Room, run
from console.key_uses import KeyUses
from console.typed import Typed
from console.watching import Watching
from hooks import push_options
from hooks.pre_receive import RefUpdate
from hooks.repository import DEPLOYING
from hooks.request import Request
from releaser.terminal import Terminal
from store import apps, audit, keys, operations, users
from store.apps import App
from store.audit import Deed, Origin
from store.errors import RefusedError, SlipwayError
from store.operations import Operation
from store.roles import Role
from store.secret import Secret
from store.users import User

log = structlog.get_logger()

_THREADS = CapacityLimiter(40)
"""For front doors and local programs alone, so that they never wait for strangers' requests over HTTP."""

CHUNK = 1 << 16
"""Bytes of a log that are sent as one frame, at most."""


_Result = TypeVar("_Result")


class Interface:
    """Answers front doors and local programs."""

    def __init__(self, room: Room, watching: Watching, key_uses: KeyUses) -> None:
        self._room = room
        self._watching = watching
        self._key_uses = key_uses

    def on_socket(self) -> Starlette:
        """Return the application for the Unix socket, whose callers may do anything: they say who is asking."""
        return Starlette(
            routes=[
                Route("/authenticate", _answered(self._authenticate), methods=["POST"]),
                Route("/repository", _answered(self._repository), methods=["POST"]),
                Route("/stored", _answered(self._stored), methods=["POST"]),
                Route("/commands", self._command, methods=["POST"]),
                Route("/portal", self._portal, methods=["POST"]),
                Route("/pushes", self._push, methods=["POST"]),
                Route("/operations/{number:int}/log", self._log, methods=["GET"]),
                *self._watching.routes(trusted=True),
            ],
            exception_handlers={SlipwayError: _refuse, Exception: _admit},
        )

    def _authenticate(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["name"]
        with self._room.store.read() as connection:
            if name.startswith(portal.PREFIX):
                holder = self._room.portal.holder(name, body["key"])
                user = None if holder is None else users.by_id(connection, holder)
                return {"user": user and {"id": user.id, "name": user.name, "portal": name}}
            login = keys.owner(connection, body["key"])
        return {"user": login and {"id": login.user.id, "name": login.user.name, "key": login.key_id}}

    def _repository(self, body: dict[str, Any]) -> dict[str, Any]:
        path = body["path"].removeprefix("/").removesuffix("/").removesuffix(".git")
        environment, slash, handle = path.rpartition("/")
        user, origin = self._who(body)
        # That somebody is let in is no deed yet: a push is entered when it moves something.
        deed = Deed(user.name, _by_git(origin), body["service"], app=named_app(handle), to_enter=False)
        with self._accounted(deed):
            need = access.needed(body["service"])
            app = self._app(user, handle, environment if slash else None, need, named=body["path"])
        return {
            "app": app.handle,
            "path": str(self._room.pipeline.repository(app.id).path),
            "deploying_branches": DEPLOYING,
        }

    def _stored(self, body: dict[str, Any]) -> dict[str, Any]:
        user, origin = self._who(body)
        with self._accounted(Deed(user.name, _by_git(origin), "git-receive-pack", " ".join(body["refs"]))):
            with self._room.store.read() as connection:
                app = apps.by_handle(connection, body["app"])
            audit.about(app=app.handle, app_id=app.id)
        return {}

    def _who(self, body: dict[str, Any]) -> tuple[User, Origin]:
        """Return who asks and from where. Raises RefusedError if they, or the key that they have shown, are gone."""
        if body["user"] is None:
            return LOCAL, audit.LOCAL
        address, key = body["from"]["address"], body["from"]["key"]
        with self._room.store.read() as connection:
            if key is None:
                user, fingerprint = users.by_id(connection, body["user"]), None
            else:
                login = keys.still_good(connection, body["user"], key)
                user, fingerprint = (login.user, login.fingerprint) if login else (None, None)
        if user is None:
            raise RefusedError("your access was removed")
        if key is not None:
            self._key_uses.note(key)
        return user, Origin("ssh", address, fingerprint)

    def _accounted(self, deed: Deed) -> AbstractContextManager[None]:
        return audit.accounted(self._room.store.write, deed)

    def _app(self, user: User, handle: str, environment: str | None, need: Role, named: str) -> App:
        with self._room.store.read() as connection:
            try:
                return apps.reachable(connection, user, handle, environment, need=need)
            except apps.NoSuchAppError:
                raise apps.NoSuchAppError(named) from None

    async def _command(self, request: HttpRequest) -> Response:
        lines = Lines(request.receive)
        body = await lines.next()

        def outcome() -> Outcome:
            user, origin = self._who(body)
            return run(Call(self._room, user, body["stdin"], origin, _terminal(body)), body["line"])

        return self._tell(lines, await _on_thread(outcome))

    async def _portal(self, request: HttpRequest) -> Response:
        lines = Lines(request.receive)
        body = await lines.next()

        def outcome() -> Outcome:
            user, origin = self._who(body)
            return sessions.enter(self._room, user, origin, body["portal"], _terminal(body))

        return self._tell(lines, await _on_thread(outcome))

    def _tell(self, lines: Lines, outcome: Outcome) -> Response:
        """Return what a command has said, at once if that is all, and else with what it goes on to say."""
        said: list[dict[str, Any]] = [{"input": True}] if outcome.needs_input else []
        said += [{"out": outcome.out}] if outcome.out else []
        said += [{"err": outcome.err}] if outcome.err else []
        if outcome.live is None and outcome.operation is None:
            said.append({"exit": outcome.exit})
            return Response(b"".join(map(line, said)), media_type=FRAMES)
        typed = Typed()
        return Conversation(lines, self._goes_on(said, outcome, typed), typed)

    async def _goes_on(
        self, said: list[dict[str, Any]], outcome: Outcome, typed: Typed
    ) -> AsyncGenerator[dict[str, Any]]:
        for frame in said:
            yield frame
        if outcome.live is not None:
            # Closed at once when this is: whatever makes the frames has to learn that nobody reads them any more.
            async with aclosing(live.frames(outcome.live, typed)) as made:
                async for frame in made:
                    yield frame
        elif outcome.operation is not None:
            async for frame in self._watch(outcome.operation, 0):
                # The log has told the error already; a push needs it once more, for its report, a command does not.
                yield {name: value for name, value in frame.items() if name != "error"}

    async def _push(self, request: HttpRequest) -> Response:
        body = await request.json()

        def open_operation() -> Operation:
            user, origin = self._who(body)
            detail = f"{body['ref']} {body['new'][:12]}"
            with self._accounted(Deed(user.name, _by_git(origin), "git-receive-pack", detail, app=body["app"])):
                app = self._app(user, body["app"], None, access.needed("git-receive-pack"), named=body["app"])
                commit = self._room.pipeline.repository(app.id).resolve(body["new"])
                update = RefUpdate(body["ref"], body["old"], body["new"])
                wanted = push_options.parse([Secret(option) for option in body["options"]])
                request = Request(
                    "deploy", wanted.changes, commit, update, force_zero_downtime=wanted.force_zero_downtime
                )
                return self._room.operations.open(app, user.id, request)

        return _stream(self._watch(await _on_thread(open_operation), 0))

    async def _log(self, request: HttpRequest) -> Response:
        def find() -> Operation:
            with self._room.store.read() as connection:
                return operations.by_id(connection, request.path_params["number"])

        operation = await _on_thread(find)
        return _stream(self._watch(operation, int(request.query_params.get("after", "0"))))

    async def _watch(self, operation: Operation, after: int) -> AsyncIterator[dict[str, Any]]:
        """Yield an operation's log from byte `after` on, as it grows, and its outcome."""
        yield {"operation": operation.id}
        logs = self._room.operations.logs
        live = logs.live(operation.id)
        if live is None:
            if not logs.path(operation.id).exists():
                yield {"out": logs.gone(operation.id)}
            for frame in _Tail(logs.path(operation.id), after).frames():
                yield frame
        else:
            tail = _Tail(logs.path(operation.id), after)
            grown = asyncio.Event()
            loop = asyncio.get_running_loop()

            def wake() -> None:
                loop.call_soon_threadsafe(grown.set)

            with live.watched(wake):
                closed = False
                while not closed:
                    closed = live.closed
                    for frame in tail.frames():
                        yield frame
                    if not closed:
                        await grown.wait()
                        grown.clear()
        yield await _on_thread(self._outcome, operation.id)

    def _outcome(self, number: int) -> dict[str, Any]:
        with self._room.store.read() as connection:
            operation = operations.by_id(connection, number)
        if operation.status == "succeeded":
            return {"exit": 0}
        if operation.finished:
            return {"exit": 1, "error": operation.error}
        return {"exit": 1, "error": f"the server is stopping; operation {number} waits, and runs when it is back"}


def _terminal(body: dict[str, Any]) -> Terminal | None:
    return Terminal.of(*body["terminal"]) if body["terminal"] else None


class _Tail:
    """Reads what a log has grown by, in whole characters."""

    def __init__(self, path: Path, after: int) -> None:
        self._path = path
        self._offset = after
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def frames(self) -> list[dict[str, Any]]:
        """Return the new text as frames, each no larger than front doors like."""
        frames = []
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while chunk := file.read(CHUNK):
                self._offset += len(chunk)
                if text := self._decoder.decode(chunk):
                    frames.append({"out": text})
        return frames


def _by_git(origin: Origin) -> Origin:
    return replace(origin, door="git")


async def _on_thread(function: Callable[..., _Result], *arguments: object) -> _Result:
    return await anyio.to_thread.run_sync(function, *arguments, limiter=_THREADS)


def _answered(
    answer: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def endpoint(request: HttpRequest) -> Response:
        return JSONResponse(await _on_thread(answer, await request.json()))

    return endpoint


def _stream(frames: AsyncIterator[dict[str, Any]]) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        async for frame in frames:
            yield line(frame)

    return StreamingResponse(lines(), media_type=FRAMES)


async def _refuse(_request: HttpRequest, error: Exception) -> Response:
    status = 403 if isinstance(error, RefusedError) else 400
    return JSONResponse({"error": str(error)}, status_code=status)


async def _admit(_request: HttpRequest, _error: Exception) -> Response:
    # The traceback goes to the log: Starlette raises the error again once this is sent.
    return JSONResponse({"error": "the server met a defect of its own; its log tells more"}, status_code=500)
