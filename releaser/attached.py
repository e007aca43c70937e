"""A command in a container that is thrown away, with somebody at its standard input, and perhaps a terminal.

Bytes go both ways as they are. With a terminal, the container gets a pseudo-terminal of the engine's, which makes lines
and signals of what is typed; without one, standard output and standard error stay apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from releaser.container import Console
from releaser.engine import Attachment, Engine, State
from releaser.one_off import Limit, kill
from releaser.release import Release
from releaser.services import Service
from releaser.terminal import Size
from store.errors import CancelledError, SlipwayError

END_OF_INPUT = b"\x04"
"""What a pseudo-terminal takes for the end of input (termios(3), VEOF); it has no end of its own."""

WriteBytes = Callable[[bytes], None]
"""Takes some bytes, as they come."""


class Typed(Protocol):
    """What comes from whoever uses a command: bytes, and new sizes of their terminal, until no more is coming."""

    def __iter__(self) -> Iterator[bytes | Size]:
        """Yield what comes, and wait for it."""

    def close(self) -> None:
        """End whoever iterates, from any thread."""


def run_attached(
    engine: Engine,
    release: Release,
    service: Service,
    console: Console,
    *,
    typed: Typed,
    out: WriteBytes,
    err: WriteBytes,
    gone: threading.Event,
    avoid: Collection[str] = (),
    left: Callable[[str], None] = lambda _identifier: None,
) -> State:
    """Run a service's command in a new container and return how it ended; the container is gone then.

    Once `gone` is set, nobody is there any more: the command is killed, and CancelledError raised. Raises
    EngineUnreachableError, EngineRefusedError and VariableError as well. `left` is told of a container that the engine
    does not remove.
    """
    attachments: list[Attachment] = []

    def begin(identifier: str) -> None:
        attachments.append(engine.attach_input(identifier, terminal=console.terminal is not None))
        engine.start(identifier)

    identifier = engine.run_one_off(release, service, avoid, begin, console)

    def end() -> None:
        # In this order: the engine does not end a container whose output waits for somebody who reads no more.
        attachment.close()
        kill(engine.url, identifier)

    try:
        attachment = attachments[-1]
        with _Typist(engine.url, identifier, attachment, console, typed), Limit(end, gone, None):
            for is_error, chunk in attachment:
                (err if is_error else out)(chunk)
            state = engine.wait(identifier)
        if gone.is_set():
            raise CancelledError(f"{service.name} was killed, since whoever used it has left")
        return state
    finally:
        for attachment in attachments:
            attachment.close()
        try:
            engine.remove(identifier)
        except SlipwayError:
            left(identifier)
            raise


class _Typist:
    """Hands on what is typed while a block runs, on a thread of its own."""

    def __init__(self, url: str, identifier: str, attachment: Attachment, console: Console, typed: Typed) -> None:
        self._url = url
        self._identifier = identifier
        self._attachment = attachment
        self._terminal = console.terminal
        self._typed = typed
        self._thread = threading.Thread(target=self._type, name="typist")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._typed.close()
        # It may be writing to a program that does not read.
        self._attachment.close()
        self._thread.join()

    def _type(self) -> None:
        # Whatever fails here ends the container's output as well, and whoever reads that is told why.
        with suppress(SlipwayError, OSError), Engine(self._url) as engine:
            if self._terminal is not None:
                self._resize(engine, self._terminal.size)
            for piece in self._typed:
                if isinstance(piece, Size):
                    self._resize(engine, piece)
                else:
                    self._attachment.write(piece)
            if self._terminal is not None:
                self._attachment.write(END_OF_INPUT)
            else:
                self._attachment.end_input()

    def _resize(self, engine: Engine, size: Size) -> None:
        if self._terminal is not None:
            with suppress(SlipwayError):  # it may just have ended
                engine.resize(self._identifier, size)
