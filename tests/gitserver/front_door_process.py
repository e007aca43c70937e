"""A front door as a process of its own: `front_door_process.py LISTENER_FD ENGINE_SOCKET HOST_KEY DRAIN_SECONDS`."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import structlog

from gitserver.front_door import FrontDoor
from hooks.engine_room import EngineRoom


def main() -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    listener, engine_room, host_key, drain_seconds = sys.argv[1:]
    door = FrontDoor(
        socket.socket(fileno=int(listener)),
        engine_room=EngineRoom(Path(engine_room)),
        host_key=Path(host_key),
        drain_seconds=float(drain_seconds),
    )
    signal.signal(signal.SIGTERM, lambda number, frame: door.drain())
    door.run()


main()
