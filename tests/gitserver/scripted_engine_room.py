"""Stands for the other process in the front door's own tests: two users, their apps, and deploys that follow a script.

It speaks the protocol of `hooks.engine_room`. Whole paths with the real engine room are tested elsewhere.
"""

from __future__ import annotations

import base64
import http.server
import json
import shlex
import socketserver
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hooks.pre_receive import ZERO
from hooks.unix_http import short_address

Write = Callable[..., None]
"""Writes one frame, given as its fields."""


@dataclass
class App:
    """A user's app."""

    owner: str
    path: Path
    deploying_branches: tuple[str, ...] = ("refs/heads/main", "refs/heads/master")


@dataclass
class ScriptedEngineRoom:
    """What the engine room knows, and what it has been asked to do."""

    socket_path: Path
    users: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    pushes: list[dict[str, Any]] = field(default_factory=list)
    stored: list[dict[str, Any]] = field(default_factory=list)
    watchers_gone: int = 0
    deploy_fails: str | None = None
    held: threading.Event = field(default_factory=threading.Event)
    """Set while a deploy or a slow command has begun and waits for `release`."""
    release: threading.Event = field(default_factory=threading.Event)
    hold: bool = False

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"room": self})
        with short_address(self.socket_path) as address:
            self._server = _Server(address, handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self.socket_path.unlink(missing_ok=True)

    def add_app(self, owner: str, name: str, path: Path) -> App:
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
        self.apps[name] = App(owner, path)
        return self.apps[name]

    def wait_if_held(self) -> None:
        if self.hold:
            self.held.set()
            assert self.release.wait(60)

    def deploy(self, push: dict[str, Any], write: Write) -> None:
        """Move the branch at the end of a deploy, as the pipeline does, or fail."""
        write(operation=len(self.pushes))
        write(out=f"operation {len(self.pushes)}: deploying {push['new'][:7]}\n")
        self.wait_if_held()
        if self.deploy_fails:
            write(exit=1, error=self.deploy_fails)
            return
        path = self.apps[push["app"]].path
        old = push["old"] if push["old"] != ZERO else ""
        subprocess.run(["git", "--git-dir", str(path), "update-ref", push["ref"], push["new"], old], check=True)
        write(out="http://127.0.0.1:1\n")
        write(exit=0)

    def command(self, user: str | None, line: str, stdin: str | None, write: Write) -> None:
        words = shlex.split(line)
        if words[0] == "whoami":
            write(out=f"{user}\n")
        elif words[0] == "config:set":
            if stdin is None:
                write(input=True)
                return
            write(out=f"{len(stdin)} characters\n")
        elif words[0] == "many":
            for number in range(int(words[1])):
                write(out=f"line {number}\n")
        elif words[0] == "slow":
            write(out="begun\n")
            self.wait_if_held()
        elif words[0] == "crash":
            return
        else:
            write(err="the details\n")
            write(exit=2, error=f"'{words[0]}' is not a command")
            return
        write(exit=0)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(http.server.BaseHTTPRequestHandler):
    room: ScriptedEngineRoom

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        chunked = "Transfer-Encoding" in self.headers
        body = json.loads(self._chunk() if chunked else self.rfile.read(int(self.headers["Content-Length"])))
        room = self.room
        user = room.users[body["user"]] if body.get("user") is not None else None
        if self.path == "/authenticate":
            name = room.keys.get(body["key"])
            self._answer(200, {"user": name and {"id": room.users.index(name), "name": name}})
        elif self.path == "/repository":
            app = room.apps.get(body["path"].strip("/").removesuffix(".git").removeprefix("live/"))
            if app is None or app.owner != user:
                self._answer(403, {"error": f"there is no app '{body['path']}' for you; see `apps`"})
            else:
                name = next(key for key, value in room.apps.items() if value is app)
                self._answer(200, {"app": name, "path": str(app.path), "deploying_branches": app.deploying_branches})
        elif self.path == "/commands":
            if body["line"].startswith("attach"):
                self._stream(lambda write: self._attach(body["terminal"], write))
            else:
                self._stream(lambda write: room.command(user, body["line"], body["stdin"], write))
        elif self.path == "/stored":
            room.stored.append(body)
            self._answer(200, {})
        elif self.path == "/pushes":
            room.pushes.append(body)
            self._stream(lambda write: room.deploy(body, write))

    def _chunk(self) -> bytes:
        """Return one chunk of the body, which is a frame."""
        chunk = self.rfile.read(int(self.rfile.readline(), 16))
        assert self.rfile.readline() == b"\r\n"
        return chunk

    def _attach(self, terminal: list[Any] | None, write: Write) -> None:
        """Stand for a program that repeats what it reads, and tells of its terminal on standard error."""

        def raw(name: str, data: bytes) -> None:
            write(**{name: base64.b64encode(data).decode()})

        raw("raw_err", f"{terminal}\n".encode())
        self.room.wait_if_held()
        write(attach=True)
        # Only from here on Ctrl-C is a key like others.
        raw("raw_err", b"attached\n")
        while "end" not in (frame := json.loads(self._chunk())):
            if "in" in frame:
                data = base64.b64decode(frame["in"])
                write(taken=len(data))
                raw("raw", data)
            else:
                raw("raw_err", f"{frame}\n".encode())
        write(exit=5)

    def _answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, script: Callable[[Write], None]) -> None:
        self.send_response(200)
        self.end_headers()

        def write(**frame: Any) -> None:
            try:
                self.wfile.write(json.dumps(frame).encode() + b"\n")
            except OSError:
                # As the real one does: who watches is no matter to what is done.
                self.room.watchers_gone += 1

        script(write)
