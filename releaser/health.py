"""When a new container counts as healthy, and what to tell its owner when it does not.

A routed service is healthy once it answers `GET /` with any HTTP status, or, with `STRICT_HEALTH_CHECKS=true`,
`GET /healthcheck` with 200 (Aptible's documentation, "Release Health Checks"). A background service is healthy once its
image's HEALTHCHECK says so; without one, once it has run for a while without exiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from releaser import probe
from releaser.container import Container
from releaser.engine import Engine
from store.errors import CancelledError, SlipwayError, UsageError

DEFAULT_SECONDS = 180
MAX_SECONDS = 900
"""How long a service may take to answer, as on Aptible."""

ATTEMPT_SECONDS = 30.0
"""How long one question may stay without an answer before it is asked anew; a first request may be slow."""

FIRST_PAUSE_SECONDS = 0.02
LAST_PAUSE_SECONDS = 0.2
"""Between two looks: a twentieth of the time waited so far, so that looking adds little to it and costs little."""

SETTLED_SECONDS = 2.0
"""A background service that is going to fail over its config or its database does so within its first moments. The
former one stands still meanwhile, so this is shorter than the uptime that overlapping containers get."""

OVERLAPPING_SECONDS = 30.0
"""Uptime of a background container that starts beside its predecessor, as on Aptible: nobody is kept waiting by it."""

SHOWN_LINES = 20
"""Last lines of a failed container's output that its owner is shown."""

OK = 200

Say = Callable[[str], None]
"""Takes one line, without line end, for whoever follows the operation."""


class UnhealthyError(SlipwayError):
    """A new container did not become healthy. The former release was not touched."""


class ExitedError(UnhealthyError):
    """A new container exited."""


@dataclass(frozen=True)
class Policy:
    """What a release's settings ask for. Raises UsageError for values that mean nothing."""

    seconds: int = DEFAULT_SECONDS
    """0 asks for no answer at all: that the container keeps running is then enough."""
    strict: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Policy:
        """Read `RELEASE_HEALTHCHECK_TIMEOUT` and `STRICT_HEALTH_CHECKS`; an empty value counts as unset."""
        timeout = settings.get("RELEASE_HEALTHCHECK_TIMEOUT") or str(DEFAULT_SECONDS)
        if not (timeout.isascii() and timeout.isdigit() and int(timeout) <= MAX_SECONDS):
            raise UsageError(
                f"RELEASE_HEALTHCHECK_TIMEOUT is {timeout[:20]!r}; set it to seconds, from 0 to {MAX_SECONDS}"
            )
        strict = (settings.get("STRICT_HEALTH_CHECKS") or "false").lower()
        if strict not in {"true", "false"}:
            raise UsageError(f"STRICT_HEALTH_CHECKS is {strict[:20]!r}; set it to true or false")
        return cls(int(timeout), strict == "true")

    @property
    def path(self) -> str:
        """The path that is asked for."""
        return "/healthcheck" if self.strict else "/"

    def passed(self, answer: int | probe.Silence) -> bool:
        """Whether an answer is good enough."""
        return answer == OK if self.strict else isinstance(answer, int)


class Nursery:
    """The new containers of one rollout, watched together: whatever is being waited for, one that exits is noticed."""

    def __init__(self, engine: Engine, *, say: Say, cancelled: threading.Event) -> None:
        self._engine = engine
        self._say = say
        self._cancelled = cancelled
        self._watched: list[tuple[Container, float]] = []

    def add(self, container: Container) -> None:
        """Watch a container that was just started."""
        self._watched.append((container, time.monotonic()))

    def watch(self) -> None:
        """Raise ExitedError if a container has exited, CancelledError if somebody asked to stop."""
        self.stop_if_cancelled()
        for container, started in self._watched:
            state = self._engine.state(container.id)
            if not state.running:
                how = (
                    "was killed for using more memory than it has"
                    if state.out_of_memory
                    else f"exited with status {state.exit_status}"
                )
                raise ExitedError(
                    f"the new container of service '{container.title}' {how}, {time.monotonic() - started:.1f} s "
                    f"after its start{self._last_words(container)}"
                )

    def stop_if_cancelled(self) -> None:
        """Raise CancelledError if somebody asked to stop."""
        if self._cancelled.is_set():
            raise CancelledError("cancelled while the new containers were starting; the former release keeps running")

    def wait_answering(self, container: Container, port: int, policy: Policy, host: str) -> None:
        """Wait until a routed service's container answers on `port`. Raises UnhealthyError.

        `host` is what the question's Host field says, since apps may answer to their own name only.
        """
        name, begun = container.title, time.monotonic()
        self._say(f"{name}: waiting up to {policy.seconds} s for an answer to GET {policy.path} on port {port}")
        answer: int | probe.Silence = probe.Silence.REFUSED
        while (left := begun + policy.seconds - time.monotonic()) > 0:
            heard = probe.get(
                container.address, port, policy.path, host, seconds=min(left, ATTEMPT_SECONDS), watch=self.watch
            )
            cut_short = heard is probe.Silence.TIMEOUT and left <= ATTEMPT_SECONDS
            # The end of the wait says less about the service than an answer that came before it.
            if not (cut_short and isinstance(answer, int)):
                answer = heard
            if policy.passed(answer):
                self._say(f"{name}: healthy, answered {answer} after {time.monotonic() - begun:.1f} s")
                return
            self._cancelled.wait(_pause(begun))
        raise UnhealthyError(f"{_complaint(name, port, policy, answer)}{self._last_words(container)}")

    def wait_listening(self, container: Container, port: int, policy: Policy) -> None:
        """Wait until a container that is reached over TCP takes connections on `port`. Raises UnhealthyError."""
        name, begun = container.title, time.monotonic()
        self._say(f"{name}: waiting up to {policy.seconds} s for port {port} to take connections")
        while (left := begun + policy.seconds - time.monotonic()) > 0:
            if probe.listens(container.address, port, seconds=min(left, ATTEMPT_SECONDS), watch=self.watch):
                self._say(f"{name}: healthy, takes connections after {time.monotonic() - begun:.1f} s")
                return
            self._cancelled.wait(_pause(begun))
        raise UnhealthyError(
            f"service '{name}' takes no connections on port {port} within {policy.seconds} s "
            f"(listen on 0.0.0.0:{port}, or name another port at the endpoint){self._last_words(container)}"
        )

    def wait_healthy(self, container: Container, policy: Policy) -> None:
        """Wait until the HEALTHCHECK of a container's image says that it is well. Raises UnhealthyError."""
        name, begun = container.title, time.monotonic()
        self._say(f"{name}: waiting up to {policy.seconds} s for its HEALTHCHECK to pass")
        while True:
            self.watch()
            state = self._engine.state(container.id)
            if state.health == "healthy":
                self._say(f"{name}: healthy, its HEALTHCHECK passed after {time.monotonic() - begun:.1f} s")
                return
            late = time.monotonic() - begun > policy.seconds
            if late or state.health == "unhealthy":
                how = f"within {policy.seconds} s" if late else "as often as it may fail"
                last = f"; the last time it wrote: {state.health_output}" if state.health_output else ""
                raise UnhealthyError(
                    f"service '{name}' did not pass its image's HEALTHCHECK {how}{last}{self._last_words(container)}"
                )
            self._cancelled.wait(_pause(begun))

    def wait_settled(self, containers: Sequence[Container], seconds: float = SETTLED_SECONDS) -> None:
        """Wait until background containers have run for so many seconds."""
        if not containers:
            return
        names = ", ".join(dict.fromkeys(container.title for container in containers))
        self._say(f"{names}: waiting {seconds:.0f} s to see that it keeps running")
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            self.watch()
            self._cancelled.wait(_pause(begun))
        self.watch()
        self._say(f"{names}: running")

    def _last_words(self, container: Container) -> str:
        """Show the container's last lines to the owner, and return the end of the sentence that refers to them."""
        lines = self._engine.last_lines(container.id, SHOWN_LINES)
        if not lines:
            return "; it wrote nothing"
        self._say(f"{container.title}: its last lines were")
        for line in lines:
            self._say(f"    {line}")
        return f"; its last line was: {next((line for line in reversed(lines) if line.strip()), '')}"


def _pause(begun: float) -> float:
    """Return how long to wait until the next look, for a wait that began then (time.monotonic)."""
    return min(max(FIRST_PAUSE_SECONDS, (time.monotonic() - begun) / 20), LAST_PAUSE_SECONDS)


def _complaint(name: str, port: int, policy: Policy, answer: int | probe.Silence) -> str:
    asked = (
        f"service '{name}' did not pass its health check, GET {policy.path} on port {port}, within {policy.seconds} s"
    )
    if isinstance(answer, int):
        return f"{asked}: it answered {answer}, and STRICT_HEALTH_CHECKS asks for 200"
    advice = ""
    if answer is probe.Silence.REFUSED:
        advice = f" (listen on 0.0.0.0:{port}, or name the port that it listens on with EXPOSE in the Dockerfile)"
    return f"{asked}: {answer.value}{advice}"
