"""Access tokens that were given out: whose they are, what they are good for, and until when.

A token itself is signed and kept by its owner alone. What is recorded here lets it be revoked: no record, no entry.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection, select

from store.errors import SlipwayError
from store.tables import now, tokens, users
from store.users import User

Scope = Literal["manage", "read"]
"""What a token is good for: whatever its owner may do, or looking only."""


class NoSuchTokenError(SlipwayError):
    """The user has no such token."""


@dataclass(frozen=True)
class Token:
    """One login."""

    id: str
    user_id: int
    scope: Scope
    created_at: datetime
    expires_at: datetime


def add(connection: Connection, user: User, scope: Scope, lifetime: timedelta) -> Token:
    """Record a token for a user, and forget those that have expired."""
    moment = now().replace(microsecond=0)  # as the signed token has it
    connection.execute(tokens.delete().where(tokens.c.expires_at < moment))
    token = Token(secrets.token_hex(8), user.id, scope, moment, moment + lifetime)
    connection.execute(
        tokens.insert().values(
            id=token.id, user_id=user.id, scope=scope, created_at=moment, expires_at=token.expires_at
        )
    )
    return token


def owner(connection: Connection, token_id: str) -> User | None:
    """Return whose a token is, None for one that was revoked or has expired."""
    row = connection.execute(
        select(users).join(tokens).where((tokens.c.id == token_id) & (tokens.c.expires_at > now()))
    ).first()
    return None if row is None else User(row.id, row.name, row.admin, row.environment_id)


def of_user(connection: Connection, user: User) -> list[Token]:
    """Return a user's tokens that are good, newest first."""
    mine = (tokens.c.user_id == user.id) & (tokens.c.expires_at > now())
    return [
        Token(row.id, row.user_id, row.scope, row.created_at, row.expires_at)
        for row in connection.execute(select(tokens).where(mine).order_by(tokens.c.created_at.desc()))
    ]


def revoke(connection: Connection, user: User, token_id: str) -> None:
    """Let a token of a user's be good for nothing from now on; raises NoSuchTokenError."""
    mine = (tokens.c.user_id == user.id) & (tokens.c.id == token_id)
    if connection.execute(tokens.delete().where(mine)).rowcount == 0:
        raise NoSuchTokenError(f"{user.name} has no token {token_id[:40]!r}; `tokens` lists them")


def revoke_all(connection: Connection, user: User) -> int:
    """Revoke every token of a user and return how many there were."""
    return connection.execute(tokens.delete().where(tokens.c.user_id == user.id)).rowcount
