"""The SSH portal: public clients that log in over HTTP watch an operation, or a command, through the Git endpoint.

They ask over HTTP for a connection, naming a public key, and are told a user name to connect as. That name is the
permission: nobody can guess it, it goes with that key alone, leads to that operation alone, once, and soon expires. It
is kept in memory, since whoever loses one asks again.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass

from store.errors import RefusedError

PREFIX = "portal-"
"""User names with this beginning are the portal's; the key alone decides for any other."""

LIFETIME_SECONDS = 120.0
"""From the permission to its use: the client connects at once."""

MOST_WAITING = 1000
"""Permissions that nobody has used yet; of more, the oldest go."""


@dataclass(frozen=True)
class Permission:
    """What one connection may do."""

    operation_id: int
    user_id: int
    key: str
    """The public key that it is made with, `TYPE BASE64`."""
    until: float
    """On the monotonic clock."""


class Portal:
    """The permissions that wait to be used. Any thread may ask."""

    def __init__(self) -> None:
        self._waiting: dict[str, Permission] = {}
        self._lock = threading.Lock()

    def permit(self, operation_id: int, user_id: int, key: str) -> str:
        """Return the user name under which `key` may connect, once, to see an operation."""
        name = PREFIX + secrets.token_hex(16)
        now = time.monotonic()
        with self._lock:
            self._waiting = {name: each for name, each in self._waiting.items() if each.until > now}
            while len(self._waiting) >= MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[name] = Permission(operation_id, user_id, key, now + LIFETIME_SECONDS)
        return name

    def holder(self, name: str, key: str) -> int | None:
        """Return the id of the user who may connect as `name` with `key`, None for nobody. It uses nothing up."""
        with self._lock:
            permission = self._waiting.get(name)
        if permission is None or permission.key != key or permission.until <= time.monotonic():
            return None
        return permission.user_id

    def take(self, name: str, user_id: int) -> Permission:
        """Use a permission up. Raises RefusedError if there is none any more."""
        with self._lock:
            permission = self._waiting.pop(name, None)
        if permission is None or permission.user_id != user_id or permission.until <= time.monotonic():
            raise RefusedError("this connection has been used already, or has expired; run the command again")
        return permission
