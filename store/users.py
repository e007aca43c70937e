"""Users and their keys."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, select

from store import environments
from store.errors import SlipwayError, UsageError
from store.handles import check_handle
from store.roles import Role
from store.tables import keys, memberships, users

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


class UserError(SlipwayError):
    """A user or key that is unknown, or exists already."""


@dataclass(frozen=True)
class User:
    """Somebody with keys."""

    id: int
    name: str
    admin: bool
    environment_id: int


@dataclass(frozen=True)
class Key:
    """One public key of a user. `key` is `TYPE BASE64`, as authorized_keys has it (sshd(8))."""

    id: int
    user: str
    key: str
    fingerprint: str
    comment: str
    created_at: datetime


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


def add(connection: Connection, name: str, *, admin: bool = False, environment_handles: Iterable[str] = ()) -> User:
    """Make a user with the role admin in the named environments; in one of the user's own name where none is named.

    The first one is where the user's apps go. Environments that do not exist are made. Raises UserError if the name is
    taken.
    """
    check_handle(name, "a user's name")
    handles = list(environment_handles) or [name]
    if connection.execute(select(users.c.id).where(users.c.name == name)).first():
        raise UserError(f"there is a user {name} already; choose another name, or add a key with keys:add")
    ids = [environments.make(connection, handle) for handle in handles]
    user_id = connection.execute(
        users.insert().values(name=name, admin=admin, environment_id=ids[0]).returning(users.c.id)
    ).scalar_one()
    for environment_id in dict.fromkeys(ids):
        connection.execute(
            memberships.insert().values(user_id=user_id, environment_id=environment_id, role=str(Role.ADMIN))
        )
    return User(user_id, name, admin, ids[0])


def add_key(connection: Connection, user: User, key: PublicKey) -> None:
    """Give a user one more key; raises UserError if anybody has it already."""
    if connection.execute(select(keys.c.id).where(keys.c.key == key.key)).first():
        raise UserError(f"the key {key.fingerprint} is in use already; one key names one user")
    connection.execute(
        keys.insert().values(user_id=user.id, key=key.key, fingerprint=key.fingerprint, comment=key.comment)
    )


def remove_key(connection: Connection, user: User, fingerprint: str) -> None:
    """Take a key away from a user; raises UserError if the user has none of that fingerprint."""
    mine = (keys.c.user_id == user.id) & (keys.c.fingerprint == fingerprint)
    if connection.execute(keys.delete().where(mine)).rowcount == 0:
        raise UserError(f"{user.name} has no key {fingerprint[:80]}; `keys` lists them")


def by_key(connection: Connection, key: str) -> User | None:
    """Return the owner of a key in the form `TYPE BASE64`."""
    return _user(connection.execute(select(users).join(keys).where(keys.c.key == key)).first())


def by_id(connection: Connection, user_id: int) -> User | None:
    """Return a user."""
    return _user(connection.execute(select(users).where(users.c.id == user_id)).first())


def by_name(connection: Connection, name: str) -> User:
    """Return a user; raises UserError for a name that is none."""
    user = _user(connection.execute(select(users).where(users.c.name == name)).first())
    if user is None:
        raise UserError(f"there is no user {name[:80]!r}; `users` lists them")
    return user


def everybody(connection: Connection) -> list[User]:
    """Return all users, by name."""
    return [
        User(row.id, row.name, row.admin, row.environment_id)
        for row in connection.execute(select(users).order_by(users.c.name))
    ]


def keys_of(connection: Connection, user: User | None = None) -> list[Key]:
    """Return one user's keys, or everybody's, oldest first."""
    question = select(keys, users.c.name).join(users).order_by(keys.c.id)
    if user is not None:
        question = question.where(users.c.id == user.id)
    return [
        Key(row.id, row.name, row.key, row.fingerprint, row.comment, row.created_at)
        for row in connection.execute(question)
    ]


def _user(row: Row[tuple[object, ...]] | None) -> User | None:
    return row and User(row.id, row.name, row.admin, row.environment_id)
