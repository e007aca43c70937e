"""The audit log: one entry per deed, in the deed's own transaction, and none that can be changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from store import apps, audit, operations, users
from store.audit import Deed, Origin
from store.data_folder import DataFolder
from store.database import Store
from store.errors import RefusedError, UsageError

FROM = Origin("ssh", "192.0.2.7", "SHA256:x")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.create(DataFolder(tmp_path / "data"))
    yield opened
    opened.close()


def entries(store: Store) -> list[tuple[str, str, str | None, int | None]]:
    with store.read() as connection:
        return [(each.action, each.result, each.app, each.operation) for each in audit.entries(connection, limit=99)]


def test_a_change_and_its_entry_are_one_transaction(store: Store) -> None:
    with audit.accounted(store.write, Deed("alice", FROM, "deploy")), store.write() as connection:
        alice = users.add(connection, "alice")
        app = apps.create(connection, alice, "shop", environment=None, ports=None, usable=lambda _: True)
        operation = operations.add(connection, store.seal, app, alice.id, "deploy", b"{}")
    assert entries(store) == [("deploy", "ok", "shop", operation.id)]

    def fail_after_writing() -> None:
        with audit.accounted(store.write, Deed("alice", FROM, "users:add")), store.write() as connection:
            users.add(connection, "bob")
            raise UsageError("and yet")

    with pytest.raises(UsageError):
        fail_after_writing()
    assert len(entries(store)) == 1
    with store.read() as connection:
        assert [user.name for user in users.everybody(connection)] == ["alice"]
        (entry,) = audit.entries(connection, limit=99)
        assert (entry.user, entry.door, entry.address, entry.key) == ("alice", "ssh", "192.0.2.7", "SHA256:x")


def test_what_changes_no_record_is_entered_once_and_what_is_refused_too(store: Store) -> None:
    with audit.accounted(store.write, Deed("alice", FROM, "ssh", app="shop")):
        pass
    with audit.accounted(store.write, Deed("alice", FROM, "apps", to_enter=False)):
        pass
    for to_enter in (True, False):
        with pytest.raises(RefusedError), audit.accounted(store.write, Deed("eve", FROM, "x", to_enter=to_enter)):
            raise RefusedError("no")
    with audit.accounted(store.write, Deed("alice", FROM, "two")):
        for name in ("carol", "dan"):
            with store.write() as connection:
                users.add(connection, name)
    done = [(action, result) for action, result, _, _ in entries(store)]
    assert done == [("ssh", "ok"), ("x", "refused"), ("x", "refused"), ("two", "ok")]


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit SET user = 'bob'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit (id, at, user, door, action, result) VALUES (1, '', 'bob', 'ssh', 'x', 'ok')",
    ],
)
def test_no_statement_changes_or_removes_an_entry(store: Store, attack: str) -> None:
    with audit.accounted(store.write, Deed("eve", FROM, "deploy", app="shop")):
        pass
    with pytest.raises(DatabaseError, match="only added to"), store.write() as connection:
        connection.execute(text(attack))
    assert entries(store) == [("deploy", "ok", "shop", None)]
