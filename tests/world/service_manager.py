"""Stands for systemd: holds a server's sockets over its restarts, and hears what it tells (sd_listen_fds(3))."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from demo.process import Process
from demo.server import PROGRAM, Server

_PASS_ON = """
import fcntl, os, sys
number = int(sys.argv[1])
given = sys.argv[2 : 2 + number]
# Out of the way of the places that they are to get.
moved = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in given]
for place, each in enumerate(moved, 3):
    os.dup2(each, place, inheritable=True)
os.environ |= {"LISTEN_FDS": str(number), "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2 + number], sys.argv[2 + number :])
"""
"""As the manager's child does between fork and exec. The process keeps its id, which is what LISTEN_PID has to be."""


class Unit(Server):
    """A server whose sockets are held for it."""

    def __init__(self, data: Path, engine: str, settings: dict[str, str]) -> None:
        notices = data.parent / f"{data.name}.notify"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(notices))
        self._notices.settimeout(30)
        super().__init__(data, engine, settings | {"NOTIFY_SOCKET": str(notices)})
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(2)]
        self.port, api = (listener.getsockname()[1] for listener in self._listeners)
        self.api = f"127.0.0.1:{api}"

    def start(self, *options: str) -> None:
        """Start the server with the sockets, and return when it has told that it is ready."""
        descriptors = [listener.fileno() for listener in self._listeners]
        words = [sys.executable, "-c", _PASS_ON, str(len(descriptors)), *map(str, descriptors), *PROGRAM]
        words += ["serve", "--data", str(self.data), "--ssh", f"127.0.0.1:{self.port}", "--api", self.api, *options]
        self.process = Process(words, log=self.log, environment=self.environment, descriptors=descriptors)
        self.greeting = self.process.wait_for(r"host key (SHA256:\S+)")[0]
        self.fingerprint = self.greeting.split()[-1]
        assert "READY=1" in self.told()

    def told(self) -> str:
        """Return what the server tells next."""
        return self._notices.recv(4096).decode()

    def close(self) -> None:
        """Let go of the sockets."""
        for listener in (*self._listeners, self._notices):
            listener.close()
