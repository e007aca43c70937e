"""Passwords, for clients that cannot log in with an SSH key: hashed with Argon2id, which is slow on purpose.

Whoever has no password cannot log in with one; the SSH keys of a user are another matter (`store.users`).
"""

from __future__ import annotations

import re
import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from store.errors import UsageError
from store.secret import Secret
from store.tables import now, passwords, users
from store.users import User, UserError, by_id

SHORTEST = 10
"""Characters of a password. NIST SP 800-63B asks for 8 and no rules of composition; two more cost nobody anything."""

LONGEST = 1024
"""Characters that are hashed, so that nobody makes the server hash a novel."""

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""Argon2id with 19 MiB and two passes (OWASP Password Storage Cheat Sheet)."""

_AT_ONCE = threading.BoundedSemaphore(2)
"""Each check takes the memory above, so only a few happen at once; others wait their turn."""

_NOBODYS = _HASHER.hash(secrets.token_hex(16))
"""A hash that no password fits: checking takes as long for a name that nobody has."""

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")


def seal(password: Secret) -> str:
    """Return what is kept of a password. Raises UsageError for one that is too short or too long."""
    if not SHORTEST <= len(password.reveal()) <= LONGEST:
        raise UsageError(f"a password has {SHORTEST} to {LONGEST} characters; nothing was changed")
    with _AT_ONCE:
        return _HASHER.hash(password.reveal())


def keep(connection: Connection, user: User, sealed: str, email: str | None = None) -> None:
    """Let a user log in with the password that `seal` has sealed, and with an e-mail address beside their name.

    Without an address, the one that they have stays. Raises UsageError for what is no address, UserError for one that
    somebody else has.
    """
    if email is not None:
        if not _EMAIL.fullmatch(email):
            raise UsageError(f"{email[:80]!r} is not an e-mail address")
        email = email.lower()
        owner = connection.execute(select(passwords.c.user_id).where(passwords.c.email == email)).scalar()
        if owner not in (None, user.id):
            raise UserError(f"{email} belongs to another user; choose another address")
    values = {"hash": sealed, "changed_at": now(), **({} if email is None else {"email": email})}
    connection.execute(
        insert(passwords)
        .values(user_id=user.id, **values)
        .on_conflict_do_update(index_elements=["user_id"], set_=values)
    )


def sealed_of(connection: Connection, login: str) -> tuple[User | None, str | None]:
    """Return who logs in as `login`, a user's name or e-mail address, and their sealed password.

    Both are None for somebody unknown or without a password, for `fits` to refuse.
    """
    row = connection.execute(
        select(passwords.c.user_id, passwords.c.hash)
        .join(users)
        .where((users.c.name == login) | (passwords.c.email == login.lower()))
    ).first()
    return (None, None) if row is None else (by_id(connection, row.user_id), row.hash)


def email_of(connection: Connection, user: User) -> str | None:
    """Return a user's e-mail address."""
    return connection.execute(select(passwords.c.email).where(passwords.c.user_id == user.id)).scalar()


def fits(sealed: str | None, password: Secret) -> bool:
    """Tell whether a password is the sealed one; for None it takes as long, and is not."""
    if len(password.reveal()) > LONGEST:
        return False
    with _AT_ONCE:
        try:
            return _HASHER.verify(sealed or _NOBODYS, password.reveal()) and sealed is not None
        except (VerificationError, InvalidHashError):
            return False
