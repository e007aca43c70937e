"""A front door as a process of its own: `front_door_process.py FD ENGINE_SOCKET HOST_KEY DRAIN_SECONDS LIMITS`.

LIMITS is a JSON object with the fields of `ConnectionLimits` and `PushLimits` that a test sets.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import structlog

from gitserver.front_door import FrontDoor
from gitserver.limits import ConnectionLimits, Limits, PushLimits
from gitserver.places import Places
from hooks.engine_room import EngineRoom


def read_limits(wanted: dict[str, Any]) -> Limits:
    of_pushes = {field.name for field in dataclasses.fields(PushLimits)}
    return Limits(
        ConnectionLimits(**{name: value for name, value in wanted.items() if name not in of_pushes}),
        PushLimits(**{name: value for name, value in wanted.items() if name in of_pushes}),
    )


def main() -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    listener, engine_room, host_key, drain_seconds, wanted = sys.argv[1:]
    limits = read_limits(json.loads(wanted))
    door = FrontDoor(
        socket.socket(fileno=int(listener)),
        engine_room=EngineRoom(Path(engine_room)),
        host_key=Path(host_key),
        limits=limits,
        places=Places(limits.connection).of(0),
        drain_seconds=float(drain_seconds),
    )
    signal.signal(signal.SIGTERM, lambda number, frame: door.drain())
    door.run()


main()
