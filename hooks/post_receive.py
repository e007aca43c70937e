"""What a push to a deploying branch sets off, seen from the front door: an operation, its log, its outcome.

Named after Git's hook of that name (githooks(5)); it runs when the push's objects are in the repository. The deploy
itself happens in the engine room and outlives the pusher. A front door only watches, and should the engine room be
restarted meanwhile, it picks the log up where it broke off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from structlog.contextvars import bind_contextvars

from hooks.engine_room import EngineRoom, EngineRoomUnreachableError, Frame, Repository, User
from hooks.pre_receive import RefUpdate
from store.errors import SlipwayError
from store.secret import Secret

RECONNECT_SECONDS = 60.0
"""How long an engine room may be away before its outcome is reported as unknown. A restart takes a second or two."""


def deploy(
    engine_room: EngineRoom,
    user: User,
    repository: Repository,
    update: RefUpdate,
    options: Sequence[Secret],
    say: Callable[[str], None],
) -> str | None:
    """Deploy `update` and pass the operation's log to `say` as it comes, line ends included.

    Return None if the deploy succeeded, which includes that the branch has moved; else the reason in one line, for the
    `ng` line of the push's report (gitprotocol-pack(5), "Report Status"). What `say` raises is passed on, and leaves
    the operation running.
    """
    operation: int | None = None
    received = 0
    stream = engine_room.push(user, repository.app, update.ref, update.old, update.new, options)
    lost_at: float | None = None
    while True:
        try:
            for frame in stream:
                lost_at = None
                if frame.operation:
                    operation = frame.operation
                    # On this thread, which is the session's, whatever is logged from here on tells of it.
                    bind_contextvars(operation=operation)
                if frame.out:
                    received += len(frame.out.encode())
                    say(frame.out)
                if frame.exit is not None:
                    return None if frame.exit == 0 else frame.error or "the deploy failed"
        except EngineRoomUnreachableError as error:
            if operation is None:
                return str(error)
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > RECONNECT_SECONDS:
                return (
                    f"the server went away during operation {operation}; see operation:logs {operation} for its outcome"
                )
            time.sleep(0.2)
        except SlipwayError as error:
            # Access that was taken away meanwhile, most likely. The report is where the user looks for the reason.
            return str(error)
        stream = _follow(engine_room, operation, received)


def _follow(engine_room: EngineRoom, operation: int | None, received: int) -> Iterator[Frame]:
    if operation is None:
        raise EngineRoomUnreachableError(
            "the server was stopped just then; look with `operations` whether it has begun the deploy, else push again"
        )
    return engine_room.follow(operation, received)
