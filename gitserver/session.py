"""One session of a connection: it is asked for one thing, does it on a thread of its own, and ends with a status."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import paramiko
import structlog

from gitserver import command, exec_request, receive_pack, upload_pack
from gitserver.counters import Count, DoorCounters
from gitserver.exec_request import GitRequest
from gitserver.greeting import greeting
from gitserver.keyboard import Keyboard
from gitserver.limits import Limits
from gitserver.patience import Patience
from gitserver.streams import ClientGoneError, ClientStreams
from hooks.engine_room import Caller, CallerGoneError, EngineRoom, User
from releaser.terminal import Size, Terminal
from store.errors import RefusedError, SlipwayError


class Session:
    """A session channel and what its client asked for. `ended` is called with it at the very end.

    `peer` is the client's address.
    """

    def __init__(
        self,
        channel: paramiko.Channel,
        peer: str,
        user: User,
        engine_room: EngineRoom,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
        counters: DoorCounters,
        ended: Callable[[Session], None],
    ) -> None:
        self.number = channel.chanid
        self.git_protocol: str | None = None
        self._channel = channel
        self._limits = limits
        self._patience = Patience(limits.connection.idle_seconds, time.monotonic())
        self._streams = ClientStreams(channel)
        self._caller = Caller(peer, user.key)
        self._engine_room = engine_room.on_behalf_of(self._caller)
        self._user = user
        self._log = log
        self._counters = counters
        self._tallying = threading.Lock()
        self._tallied = (0, 0)
        self._ended = ended
        self._keyboard = Keyboard(self._streams)
        self._terminal: Terminal | None = None
        self._asked = False
        self._line: bytes | None = None
        self._thread: threading.Thread | None = None

    @property
    def in_portal(self) -> bool:
        """Whether the user name of the connection says already what the session is for."""
        return self._user.portal is not None

    def terminal_at_client(self, terminal: Terminal) -> bool:
        """Note that the client's terminal is in raw mode; False once the session has been asked for something."""
        if self._asked:
            return False
        self._terminal = terminal
        return True

    def terminal_resized(self, size: Size) -> bool:
        """Tell the program in a container, if there is one, how large the terminal is now; False without one."""
        if self._terminal is None:
            return False
        if not self._asked:
            self._terminal = replace(self._terminal, size=size)
        self._keyboard.command.resize(*size)
        return True

    def ask(self, line: bytes | None) -> bool:
        """Take a request, an exec's line or None for a shell; False if there has been one (RFC 4254, 6.5)."""
        if self._asked:
            return False
        self._asked = True
        self._line = line
        return True

    def start(self) -> None:
        """Begin what was asked for, unless it has begun."""
        if self._asked and self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"session-{self.number}", daemon=True)
            self._thread.start()

    def overdue(self, now: float) -> bool:
        """Return whether the client has been waited for long enough: for its request, or for what it owes since."""
        waiting = self._thread is None or self._streams.awaited
        return self._patience.exhausted(now, waiting=waiting, moved=self._streams.moved)

    def tally(self) -> None:
        """Count the bytes that have come and gone since the last time."""
        with self._tallying:
            received, sent = self._streams.received, self._streams.sent
            self._counters.add(Count.BYTES_RECEIVED, received - self._tallied[0])
            self._counters.add(Count.BYTES_SENT, sent - self._tallied[1])
            self._tallied = received, sent

    def client_left(self) -> None:
        """End whatever is under way for the client. Called on the transport's thread."""
        self._streams.hang_up()
        if self._thread is None:
            self._ended(self)

    def _run(self) -> None:
        status = 1
        try:
            with self._streams.when_gone(self._caller.leave):
                status = self._serve()
            self._log.info("session.ended", status=status)
        except (ClientGoneError, CallerGoneError):
            self._log.info("session.client_gone")
        except SlipwayError as error:
            status = error.exit_status
            # Its class alone: the engine room's sentences may quote the words of a command.
            event = "session.refused" if isinstance(error, RefusedError) else "session.failed"
            self._log.info(event, error=type(error).__name__)
            self._say(str(error))
        except Exception as error:
            # Without the error's own words and values, which may be somebody's secret.
            where = traceback.format_tb(error.__traceback__)
            self._log.error("session.crashed", error=type(error).__name__, where=where)
            self._say("the server failed; try again, and report it to whoever runs the server if it happens again")
        finally:
            try:
                self._streams.finish(status)
            except (OSError, EOFError, paramiko.SSHException):
                # The client has left in this very moment; its connection says so in the log.
                pass
            finally:
                self.tally()
                self._ended(self)

    def _serve(self) -> int:
        if self.in_portal:
            # Whatever the client asks for, as with a forced command (sshd_config(5), ForceCommand).
            self._log.info("session.portal")
            return command.enter_portal(
                self._streams, self._engine_room, self._user, keyboard=self._keyboard, terminal=self._terminal
            )
        if self._line is None:
            self._write_text(self._streams.write, greeting(self._user))
            return 0
        self._log.info("session.command", command=exec_request.first_word(self._line))
        request = exec_request.parse(self._line)
        if isinstance(request, GitRequest):
            repository = self._engine_room.repository(self._user, request.path, request.service)
            log = self._log.bind(app=repository.app)
            if request.service == "git-upload-pack":
                self._counters.add(Count.FETCHES)
                return upload_pack.serve(self._streams, repository, self.git_protocol)
            return receive_pack.serve(
                self._streams, self._engine_room, self._user, repository, log, self._limits.push, self._counters
            )
        self._counters.add(Count.COMMANDS)
        return command.run(
            self._streams,
            self._engine_room,
            self._user,
            request.line,
            keyboard=self._keyboard,
            terminal=self._terminal,
        )

    def _say(self, sentence: str) -> None:
        try:
            self._write_text(self._streams.write_error, sentence + "\n")
        except ClientGoneError:
            self._log.info("session.client_gone")

    def _write_text(self, write: Callable[[bytes], None], text: str) -> None:
        write((text.replace("\n", "\r\n") if self._terminal else text).encode())
