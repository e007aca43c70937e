"""Passwords and tokens: what is kept of them, and what lets somebody in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from store import passwords, tokens, users
from store.data_folder import DataFolder
from store.database import Store
from store.errors import UsageError
from store.secret import Secret
from store.tokens import NoSuchTokenError
from store.users import User, UserError

PASSWORD = Secret("correct horse battery")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    store = Store.create(DataFolder(tmp_path / "data"))
    with store.write() as connection:
        yield connection
    store.close()


@pytest.fixture
def alice(connection: Connection) -> User:
    return users.add(connection, "alice")


def test_only_the_password_itself_fits_and_it_is_kept_nowhere(connection: Connection, alice: User) -> None:
    passwords.keep(connection, alice, passwords.seal(PASSWORD), "Alice@Example.com")
    for login in ("alice", "alice@example.com", "ALICE@example.com"):
        user, sealed = passwords.sealed_of(connection, login)
        assert user == alice
        assert sealed is not None
        assert sealed.startswith("$argon2id$")
        assert PASSWORD.reveal() not in sealed
        assert passwords.fits(sealed, PASSWORD)
        assert not passwords.fits(sealed, Secret("correct horse batterz"))
    assert passwords.email_of(connection, alice) == "alice@example.com"


def test_nobody_and_somebody_without_a_password_are_the_same(connection: Connection, alice: User) -> None:
    assert passwords.sealed_of(connection, "alice") == passwords.sealed_of(connection, "mallory") == (None, None)
    assert not passwords.fits(None, PASSWORD)


def test_a_password_is_long_enough_and_not_a_novel(connection: Connection, alice: User) -> None:
    for text in ("123456789", "x" * 1025):
        with pytest.raises(UsageError, match="10 to 1024 characters"):
            passwords.seal(Secret(text))
    assert not passwords.fits(None, Secret("x" * 100_000))


def test_an_address_belongs_to_one_user(connection: Connection, alice: User) -> None:
    sealed = passwords.seal(PASSWORD)
    passwords.keep(connection, alice, sealed, "a@example.com")
    passwords.keep(connection, alice, sealed)
    assert passwords.email_of(connection, alice) == "a@example.com", "a new password keeps the address"
    bob = users.add(connection, "bob")
    with pytest.raises(UserError, match="another user"):
        passwords.keep(connection, bob, sealed, "A@example.com")
    with pytest.raises(UsageError, match="is not an e-mail address"):
        passwords.keep(connection, bob, sealed, "nonsense")


def test_a_token_is_good_until_it_expires_or_is_revoked(connection: Connection, alice: User) -> None:
    token = tokens.add(connection, alice, "manage", timedelta(hours=1))
    late = tokens.add(connection, alice, "read", timedelta(seconds=-1))
    assert tokens.owner(connection, token.id) == alice
    assert tokens.owner(connection, late.id) is None
    assert tokens.owner(connection, "0" * 16) is None
    assert [each.id for each in tokens.of_user(connection, alice)] == [token.id]
    bob = users.add(connection, "bob")
    with pytest.raises(NoSuchTokenError):
        tokens.revoke(connection, bob, token.id)
    tokens.revoke(connection, alice, token.id)
    assert tokens.owner(connection, token.id) is None
