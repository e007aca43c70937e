"""Public keys: how people show who they are. A key names one user, and may expire."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, or_, select

from store import users
from store.errors import SlipwayError, UsageError
from store.tables import keys, now
from store.tables import users as user_records
from store.users import User

KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
"""Public key formats that the SSH endpoint can verify (RFC 4253, RFC 5656, RFC 8709)."""

RSA_BITS = 2048
"""Shortest RSA modulus taken, the least that NIST SP 800-131A allows for signatures."""


# Made once: making such a question takes longer than the answer, and each push asks both.
_LOGIN = (
    select(user_records, keys.c.id.label("key_id"), keys.c.fingerprint)
    .join(keys)
    .where(user_records.c.removed_at.is_(None))
    .where(or_(keys.c.expires_at.is_(None), keys.c.expires_at > bindparam("moment")))
)
_BY_KEY = _LOGIN.where(keys.c.key == bindparam("shown"))
_AGAIN = _LOGIN.where(keys.c.id == bindparam("shown"), keys.c.user_id == bindparam("by"))


class KeyTakenError(SlipwayError):
    """Somebody has the key already."""


class NoSuchKeyError(SlipwayError):
    """The user has no such key."""


@dataclass(frozen=True)
class Key:
    """One public key of a user. `key` is `TYPE BASE64`, as authorized_keys has it (sshd(8))."""

    id: int
    user: str
    key: str
    fingerprint: str
    comment: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute or so."""


@dataclass(frozen=True)
class Login:
    """A user, and the key that they have shown."""

    user: User
    key_id: int
    fingerprint: str


@dataclass(frozen=True)
class PublicKey:
    """A public key as a person hands it over, checked."""

    key: str
    fingerprint: str
    comment: str

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the one-line OpenSSH form, `TYPE BASE64 [COMMENT]`.

        Raises UsageError for anything else: several lines, a private key, a kind that cannot be verified here, a body
        that does not match its type, a short RSA key.
        """
        lines = [line for line in text.strip().splitlines() if line.strip() and not line.startswith("#")]
        if "PRIVATE KEY" in text:
            raise UsageError("that is a private key, which belongs to its owner alone; give the .pub file beside it")
        words = lines[0].split(None, 2) if len(lines) == 1 else []
        if len(words) < 2:
            raise UsageError("that is not one public key in OpenSSH's one-line form, as in ~/.ssh/id_ed25519.pub")
        kind, body, comment = words[0], words[1], words[2] if len(words) > 2 else ""
        if kind not in KEY_TYPES:
            raise UsageError(f"keys of type {kind[:40]!r} cannot be used here; use one of: {', '.join(KEY_TYPES)}")
        try:
            blob = base64.b64decode(body, validate=True)
            fields = _fields(blob)
        except (ValueError, struct.error) as error:
            raise UsageError("the key's body is damaged; copy the whole line of the .pub file") from error
        if not fields or fields[0] != kind.encode():
            raise UsageError(f"the key's body is not of the type {kind} that stands before it")
        if kind == "ssh-rsa" and (len(fields) != 3 or int.from_bytes(fields[2]).bit_length() < RSA_BITS):
            raise UsageError(
                f"RSA keys of fewer than {RSA_BITS} bits are not safe; make one with ssh-keygen -t ed25519"
            )
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        return cls(f"{kind} {base64.b64encode(blob).decode()}", f"SHA256:{digest}", comment[:255])


def _fields(blob: bytes) -> list[bytes]:
    """Split a key blob into its strings (RFC 4251, section 5)."""
    fields, position = [], 0
    while position < len(blob):
        (length,) = struct.unpack_from(">I", blob, position)
        position += 4 + length
        if position > len(blob):
            raise struct.error
        fields.append(blob[position - length : position])
    return fields


def add(connection: Connection, user: User, key: PublicKey, *, expires_at: datetime | None = None) -> None:
    """Give a user one more key, for ever or until a moment. Raises KeyTakenError if anybody has it already."""
    if connection.execute(select(keys.c.id).where(keys.c.key == key.key)).first():
        raise KeyTakenError(f"the key {key.fingerprint} is in use already; one key names one user")
    connection.execute(
        keys.insert().values(
            user_id=user.id,
            key=key.key,
            fingerprint=key.fingerprint,
            comment=key.comment,
            expires_at=expires_at,
        )
    )


def remove(connection: Connection, user: User, fingerprint: str) -> None:
    """Take a key away from a user; raises NoSuchKeyError if the user has none of that fingerprint."""
    mine = (keys.c.user_id == user.id) & (keys.c.fingerprint == fingerprint)
    if connection.execute(keys.delete().where(mine)).rowcount == 0:
        raise NoSuchKeyError(f"{user.name} has no key {fingerprint[:80]}; `keys` lists them")


def owner(connection: Connection, key: str) -> Login | None:
    """Return who may log in with a key in the form `TYPE BASE64`; None too for one that has expired."""
    return _login(connection, _BY_KEY, shown=key)


def still_good(connection: Connection, user_id: int, key_id: int) -> Login | None:
    """Return somebody who has logged in before, None if their key was removed or has expired since."""
    return _login(connection, _AGAIN, shown=key_id, by=user_id)


def _login(connection: Connection, question: Select[tuple[Any, ...]], **which: object) -> Login | None:
    row = connection.execute(question, {"moment": now(), **which}).first()
    return None if row is None else Login(users.user(row), row.key_id, row.fingerprint)


def of(connection: Connection, user: User | None = None) -> list[Key]:
    """Return one user's keys, or everybody's, oldest first."""
    question = select(keys, user_records.c.name).join(user_records).order_by(keys.c.id)
    if user is not None:
        question = question.where(user_records.c.id == user.id)
    return [
        Key(
            row.id,
            row.name,
            row.key,
            row.fingerprint,
            row.comment,
            row.created_at,
            row.expires_at,
            row.last_used_at,
        )
        for row in connection.execute(question)
    ]


def note_use(connection: Connection, used: Mapping[int, datetime]) -> None:
    """Record when keys were used last, by their ids."""
    for key_id, moment in used.items():
        connection.execute(keys.update().where(keys.c.id == key_id).values(last_used_at=moment))
