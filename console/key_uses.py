"""When keys were used last: noted as requests come, recorded a little later, so that no push waits for it."""

from __future__ import annotations

import threading
import time
from datetime import datetime

from store import keys
from store.database import Store
from store.tables import now

PRECISION_SECONDS = 60.0
"""How often the use of one key is recorded, at most."""


class KeyUses:
    """Uses of keys that are still to be recorded. Any thread may note one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._noted: dict[int, float] = {}
        self._waiting: dict[int, datetime] = {}

    def note(self, key_id: int) -> None:
        """Note that a key was used just now."""
        moment = time.monotonic()
        with self._lock:
            if moment - self._noted.get(key_id, -PRECISION_SECONDS) >= PRECISION_SECONDS:
                self._noted[key_id] = moment
                self._waiting[key_id] = now()

    def record(self) -> None:
        """Record what was noted since the last time, in one transaction; nothing where nothing was."""
        with self._lock:
            used, self._waiting = self._waiting, {}
        if used:
            with self._store.write() as connection:
                keys.note_use(connection, used)
