"""Whether the server can do its work right now: what `/readyz` answers.

Each answer is kept for a moment, so that nobody who asks often costs anything, and is there within a few seconds
whatever hangs. It says in plain words what is wrong, and nothing that a stranger could use: `slipway doctor` tells the
details.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from gitserver.counters import Counters
from hooks.operations import Operations
from releaser.releaser import Releaser
from store.data_folder import DataFolder
from store.database import Store
from store.errors import SlipwayError

FRESH_SECONDS = 2.0
"""How long an answer counts; who watches a server asks every few seconds."""

PATIENCE_SECONDS = 3.0
"""How long a check may take: what needs longer is no better than what does not answer, and those who ask wait, too."""

SIGN_SECONDS = 10.0
"""How old a front door's last sign of life may be. It gives one every second, unless the machine is very busy."""

LEAST_FREE_BYTES = 64 << 20
"""Room for the records and some small pushes; below it they fail, one after another."""

log = structlog.get_logger()


class NotReadyError(SlipwayError):
    """A part of the server cannot do its work."""


@dataclass(frozen=True)
class Answer:
    """How the server was a moment ago."""

    problems: Mapping[str, str | None]
    """What is wrong, by the part of the server; None for what is well."""
    containers: Mapping[str, int] = field(default_factory=dict)
    """How many containers of this server the engine has, by state."""
    front_doors: int = 0
    """Front doors that live."""

    @property
    def ready(self) -> bool:
        """Whether all is well."""
        return not any(self.problems.values())


class Readiness:
    """Looks at the parts of the server. Safe in any thread."""

    def __init__(
        self, folder: DataFolder, store: Store, desk: Operations, releaser: Releaser, counters: Counters
    ) -> None:
        self._folder = folder
        self._store = store
        self._desk = desk
        self._releaser = releaser
        self._counters = counters
        self._looking = threading.Lock()
        self._answer: Answer | None = None
        self._answered_at = 0.0
        self._hanging: dict[str, threading.Thread] = {}

    def now(self) -> Answer:
        """Return how the server is. However many ask, one of them looks, and the others wait for what it finds."""
        with self._looking:
            if self._answer is None or time.monotonic() - self._answered_at > FRESH_SECONDS:
                before = {} if self._answer is None else self._answer.problems
                self._answer = self._look()
                self._answered_at = time.monotonic()
                for part, problem in self._answer.problems.items():
                    if problem and problem != before.get(part):
                        log.warning("a part of the server is not ready", part=part, problem=problem)
                    elif before.get(part) and not problem:
                        log.info("a part of the server is ready again", part=part)
            return self._answer

    def _look(self) -> Answer:
        containers: Counter[str] = Counter()
        doors = sum(sign.seconds_ago < SIGN_SECONDS for sign in self._counters.signs())

        def front_doors() -> None:
            if not doors:
                raise NotReadyError("no front door is up, so nobody can push; it is started again within seconds")

        def engine() -> None:
            containers.update(state for _, state in self._releaser.standing())

        checks: dict[str, Callable[[], None]] = {
            "server": self._serving,
            "records": self._store.probe,
            "disk": self._disk,
            "engine": engine,
            "proxy": self._proxy,
            "front_doors": front_doors,
        }
        problems = self._examine(checks)
        if problems["engine"]:
            containers.clear()
        return Answer(problems, containers, doors)

    def _examine(self, checks: Mapping[str, Callable[[], None]]) -> dict[str, str | None]:
        """Do all checks at once, each on a thread of its own, and return what they found."""
        found: dict[str, str | None] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS

        def examine(name: str, check: Callable[[], None]) -> None:
            try:
                check()
                found[name] = None
            except NotReadyError as error:
                found[name] = str(error)
            except Exception as error:
                # Its own words are for the operator alone: they may name addresses and files.
                log.warning("a part of the server cannot be used", part=name, error=f"{type(error).__name__}: {error}")
                found[name] = f"the {name} cannot be used; `slipway doctor` on the server tells why"

        for name, check in checks.items():
            # What still hangs from the last time is not asked once more: threads would heap up.
            if name not in self._hanging or not self._hanging[name].is_alive():
                thread = threading.Thread(target=examine, args=(name, check), name=f"examine {name}", daemon=True)
                self._hanging[name] = thread
                thread.start()
        for thread in self._hanging.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return {name: found.get(name, f"the {name} did not answer within {PATIENCE_SECONDS:g} s") for name in checks}

    def _serving(self) -> None:
        if self._desk.stopping:
            raise NotReadyError("the server is stopping; what runs goes on, and the next start takes what waits")

    def _disk(self) -> None:
        free = shutil.disk_usage(self._folder.root).free
        if free < LEAST_FREE_BYTES:
            raise NotReadyError(f"only {free >> 20} MiB are free for the data folder; make room, or pushes fail")

    def _proxy(self) -> None:
        if not self._releaser.proxy_answers():
            raise NotReadyError("the proxy does not answer, so no app does; it is started again within seconds")
