"""What runs is compared with the records: all of it at the start, and again and again while the server runs.

At the start nothing else happens, since a crash may have left anything behind. Later it is done beside operations.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from hooks.certificates import Certificates
from hooks.upkeep import Upkeep
from releaser.releaser import Releaser
from store.errors import SlipwayError

log = structlog.get_logger()

RETRY_SECONDS = 3.0
"""Between attempts to reach an engine that is down."""

PROXY_SECONDS = 1.0
"""How soon a proxy that died is started again; without it no app answers."""

LOOK_SECONDS = 5.0
"""How soon a container that was stopped or removed by hand is missed: one question to the engine for all apps."""

RENEWAL_SECONDS = 300.0
"""How often the ends of managed certificates are looked at; they are renewed weeks before."""

RECONCILE_SECONDS = 60.0
"""How often everything is compared, whether anything seems to have changed or not."""


def keep_agreeing(upkeep: Upkeep, releaser: Releaser, stopping: threading.Event) -> None:
    """Make what runs agree with the records as soon as the engine answers, and keep it so until `stopping` is set."""
    while not stopping.is_set() and not _tried(upkeep.restore):
        stopping.wait(RETRY_SECONDS)
    watch = _Watch(upkeep, releaser)
    while not stopping.wait(PROXY_SECONDS):
        if not _tried(watch.look):
            stopping.wait(RETRY_SECONDS)


def keep_renewed(certificates: Certificates, stopping: threading.Event) -> None:
    """Renew managed certificates in good time until `stopping` is set. Beside the rest, since authorities are slow."""
    while not stopping.wait(RENEWAL_SECONDS):
        _tried(certificates.renew_due)


class _Watch:
    """Looks often for what is cheap to see, and rarely for everything."""

    def __init__(self, upkeep: Upkeep, releaser: Releaser) -> None:
        self._upkeep = upkeep
        self._releaser = releaser
        self._standing: frozenset[tuple[str, str]] | None = None
        self._looked = time.monotonic()
        self._reconciled = time.monotonic()

    def look(self) -> None:
        """Mend what is due to be looked at. Raises SlipwayError."""
        self._releaser.keep_proxy()
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        # Of before the comparison: what changes during it may be of an app whose turn is over already. What the
        # comparison itself changes leads to one more, which finds nothing.
        standing = self._releaser.standing()
        everything = self._upkeep.overdue or time.monotonic() - self._reconciled > RECONCILE_SECONDS
        if everything or standing != self._standing:
            self._upkeep.reconcile()
            self._reconciled = time.monotonic()
            self._standing = standing


def _tried(step: Callable[[], None]) -> bool:
    """Do something, and return whether it could be done; if not, the log says why."""
    try:
        step()
    except SlipwayError as error:
        log.warning("what runs cannot be compared with the records yet", error=str(error))
        return False
    except Exception:
        log.exception("comparing what runs with the records met a defect")
        return False
    return True
