"""A front door's way to the engine room: HTTP over a Unix socket in the data folder.

The engine room owns the records and runs every operation; a front door asks it who somebody is, what they may reach,
and hands it commands and pushes. Answers that take their time are streams of frames, one JSON object a line
(`application/x-ndjson`):

* `{"operation": 12}`: the operation that the request opened. It goes on whatever becomes of this connection.
* `{"out": "…"}`, `{"err": "…"}`: text for the person's standard output or standard error, line ends included.
* `{"raw": "BASE64"}`, `{"raw_err": "BASE64"}`: a program's own bytes for them.
* `{"input": true}`: the command reads standard input as a whole; ask again with the text.
* `{"attach": true}`: a program reads standard input as it comes; send it (`hooks.command_input`).
* `{"taken": 5}`: so many bytes of it have reached the program.
* `{"exit": 0, "error": "…"}`: the last frame; `error` is one line without line end, absent on success.
"""

from __future__ import annotations

import base64
import copy
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from hooks.command_input import CommandInput
from hooks.unix_http import Answer, Connections
from releaser.terminal import Terminal
from store.errors import RefusedError, SlipwayError
from store.secret import Secret

GitService = Literal["git-upload-pack", "git-receive-pack"]


class EngineRoomUnreachableError(SlipwayError):
    """The engine room does not answer: it is starting, restarting or stopping."""


@dataclass(frozen=True)
class User:
    """Who is asking, as the engine room knows them."""

    id: int
    name: str
    key: int | None = None
    """The record of the key that they have shown."""
    portal: str | None = None
    """The user name of a connection that may do one thing only, which `EngineRoom.portal` does."""


@dataclass(frozen=True)
class Repository:
    """One app's bare repository, opened for one user."""

    app: str
    """The app's handle."""
    path: Path
    """The bare repository's folder."""
    deploying_branches: tuple[str, ...]
    """Full ref names whose update is a deploy."""


@dataclass(frozen=True)
class Frame:
    """One frame of a streamed answer; see the module's own text. Exactly one field is set, `error` goes with `exit`.

    What is `taken` is not told to whoever reads the answer.
    """

    operation: int | None = None
    out: str | None = None
    err: str | None = None
    raw: bytes | None = None
    raw_err: bytes | None = None
    input: bool = False
    attach: bool = False
    taken: int = 0
    exit: int | None = None
    error: str | None = None

    @classmethod
    def read(cls, line: bytes) -> Frame:
        """Read a frame as it is sent."""
        fields = json.loads(line)
        for name in ("raw", "raw_err"):
            if name in fields:
                fields[name] = base64.b64decode(fields[name])
        return cls(**fields)


class CallerGoneError(Exception):
    """Whoever asked has left, so there is nobody to answer. What the engine room was asked to do, it does."""


class Caller:
    """Somebody who asks and may leave before the answer has ended.

    `address` is where they ask from, and `key` the record of the key that they have shown; both None for a program at
    this machine.
    """

    def __init__(self, address: str | None = None, key: int | None = None) -> None:
        self.address = address
        self.key = key
        self._lock = threading.Lock()
        self._gone = False
        self._connections: set[socket.socket] = set()

    @property
    def gone(self) -> bool:
        """Whether `leave` has been called."""
        return self._gone

    def leave(self) -> None:
        """End every answer at once, those to come included: they raise CallerGoneError. Safe in any thread."""
        with self._lock:
            self._gone = True
            for connection in self._connections:
                # A thread that waits in recv() is not woken by closing the descriptor, but by shutting the socket down.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def listening(self, connection: socket.socket) -> Iterator[None]:
        """Have `connection` shut down if the caller leaves before the block ends; raises CallerGoneError."""
        with self._lock:
            if self._gone:
                raise CallerGoneError
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


class EngineRoom:
    """A client of the engine room, which threads may share."""

    ANSWER_SECONDS = 30.0
    """How long a plain question may take before the engine room counts as unreachable."""

    def __init__(self, socket_path: Path) -> None:
        self._connections = Connections(socket_path)
        self._caller = Caller()

    def on_behalf_of(self, caller: Caller) -> EngineRoom:
        """Return the same engine room as `caller` sees it: every call raises CallerGoneError once they have left."""
        room = copy.copy(self)
        room._caller = caller
        return room

    def close_idle(self) -> None:
        """Close connections that nobody has needed for long; to be called now and then."""
        self._connections.close_idle()

    def authenticate(self, key: str, name: str = "") -> User | None:
        """Return who owns a public key, or None.

        `key` is the OpenSSH one-line form without a comment, `TYPE BASE64`; `name` is the user name of the connection.
        """
        answer = self._ask("/authenticate", {"key": key, "name": name})
        return None if answer["user"] is None else User(**answer["user"])

    def repository(self, user: User, path: str, service: GitService) -> Repository:
        """Open the repository that a Git client names, `environment/app.git` or `app.git`.

        Raises RefusedError with one and the same message for a name that is malformed, unknown or somebody else's.
        """
        answer = self._ask("/repository", {"user": user.id, "path": path, "service": service})
        return Repository(answer["app"], Path(answer["path"]), tuple(answer["deploying_branches"]))

    def command(
        self,
        user: User | None,
        line: str | Sequence[str],
        stdin: str | None = None,
        *,
        terminal: Terminal | None = None,
        typed: CommandInput | None = None,
    ) -> Iterator[Frame]:
        """Run a user command: one line as SSH carries it, or the words of a local program.

        `user` None is the administrator at this machine. `stdin` is standard input as a whole; `typed` is for what
        comes while the answer is read, once an `attach` frame has asked for it. Closing the iterator leaves any
        operation running, and ends a program that the caller is attached to.
        """
        body = {
            "user": user and user.id,
            "line": line if isinstance(line, str) else list(line),
            "stdin": stdin,
            "terminal": terminal and [terminal.name, *terminal.size],
        }
        yield from self._stream("POST", "/commands", body, typed)

    def portal(
        self, user: User, *, terminal: Terminal | None = None, typed: CommandInput | None = None
    ) -> Iterator[Frame]:
        """Do, once, what the user name of a user's connection stands for: show an operation, or run its command.

        `terminal` and `typed` are as for `command`. Raises RefusedError if it has been done already.
        """
        body = {"user": user.id, "portal": user.portal, "terminal": terminal and [terminal.name, *terminal.size]}
        yield from self._stream("POST", "/portal", body, typed)

    def push(self, user: User, app: str, ref: str, old: str, new: str, options: Sequence[Secret]) -> Iterator[Frame]:
        """Deploy commit `new` as the update of `ref` from `old` (40 hexadecimal digits; 40 zeros for a new ref).

        The objects must be in the repository already. The pipeline moves the ref itself, when the deploy has succeeded:
        `exit` 0 says that it did. `options` are Git push options as the client gave them (`hooks.push_options`).
        """
        body = {"user": user.id, "app": app, "ref": ref, "old": old, "new": new}
        body["options"] = [option.reveal() for option in options]
        yield from self._stream("POST", "/pushes", body)

    def stored(self, user: User, app: str, refs: Sequence[str]) -> None:
        """Tell that a push has moved refs which deploy nothing, for the audit log."""
        # They have moved, so this is told also if whoever pushed has left by now.
        room = self.on_behalf_of(Caller(self._caller.address, self._caller.key))
        room._ask("/stored", {"user": user.id, "app": app, "refs": list(refs)})

    def follow(self, operation: int, after: int = 0) -> Iterator[Frame]:
        """Stream an operation's log from byte offset `after` and end with its outcome."""
        yield from self._stream("GET", f"/operations/{operation}/log?after={after}", None)

    def ready(self) -> None:
        """Raise SlipwayError, saying why, unless the server can do its work."""
        with self._request("GET", "/readyz", None, self.ANSWER_SECONDS) as answer:
            answer.read()

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        with self._request("POST", path, body, self.ANSWER_SECONDS) as answer:
            return json.loads(answer.read())

    def _stream(
        self, method: str, path: str, body: dict[str, Any] | None, typed: CommandInput | None = None
    ) -> Iterator[Frame]:
        with self._request(method, path, body, None, typed) as answer:
            for line in answer.lines():
                frame = Frame.read(line)
                if typed and frame.taken:
                    typed.take(frame.taken)
                    continue
                yield frame
                if frame.exit is not None:
                    return
            raise EngineRoomUnreachableError("the server stopped while it was answering")

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout: float | None,
        typed: CommandInput | None = None,
    ) -> Iterator[Answer]:
        connection = answer = None
        try:
            connection = self._connections.take(timeout)
            with self._caller.listening(connection.sock):
                came_from = {"address": self._caller.address, "key": self._caller.key}
                payload = b"" if body is None else json.dumps({"from": came_from, **body}).encode() + b"\n"
                answer = connection.request(method, path, payload, open_ended=typed is not None)
                if typed is not None:
                    typed.open(connection.sock)
                if answer.status == HTTPStatus.FORBIDDEN:
                    raise RefusedError(json.loads(answer.read())["error"])
                if answer.status != HTTPStatus.OK:
                    raise SlipwayError(json.loads(answer.read())["error"])
                yield answer
        except (OSError, SlipwayError) as error:
            if self._caller.gone:
                raise CallerGoneError from None
            if isinstance(error, SlipwayError):
                raise
            raise EngineRoomUnreachableError(
                "the server's engine room does not answer; try again in a moment"
            ) from error
        finally:
            if typed is not None:
                typed.close()
            if connection is not None:
                self._connections.give_back(connection, answer)
