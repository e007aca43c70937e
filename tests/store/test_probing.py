"""Whoever asks for what they may not reach, or shows a key that nobody has, learns nothing from how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from store import apps, keys, users
from store.apps import NoSuchAppError
from store.data_folder import DataFolder
from store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    opened = Store.create(folder)
    with opened.write() as connection:
        for name in ("alice", "bob"):
            users.add(connection, name)
        alice = users.by_name(connection, "alice")
        apps.create(connection, alice, "shop", environment=None, ports=None, usable=lambda port: True)
    yield opened
    opened.close()


def work(ask: Callable[[], object]) -> list[tuple[str, int]]:
    """Return the statements that a question makes, each with how many parameters it has."""
    seen: list[tuple[str, int]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append((statement, len(parameters)))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        ask()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return seen


def test_no_access_and_no_such_app_are_the_same_work(store: Store) -> None:
    with store.read() as connection:
        bob = users.by_name(connection, "bob")

        def refused(handle: str, environment: str | None = None) -> Callable[[], None]:
            def ask() -> None:
                with pytest.raises(NoSuchAppError):
                    apps.reachable(connection, bob, handle, environment)

            return ask

        asked = [("shop", None), ("nothing", None), ("shop", "alice"), ("shop", "bob"), ("x" * 500, None), ("", None)]
        done = [work(refused(*words)) for words in asked]
        assert done[0]
        assert all(statements == done[0] for statements in done)


def test_an_operation_of_a_foreign_app_is_the_same_work_as_one_of_none(store: Store) -> None:
    with store.read() as connection:
        bob = users.by_name(connection, "bob")
        foreign = apps.by_handle(connection, "shop").id
        done = [work(partial(apps.reachable_by_id, connection, bob, number)) for number in (foreign, 99)]
    assert done[0] == done[1] != []


def test_a_key_that_nobody_has_is_the_same_work(store: Store) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE7DXheyVa4whn1A6j1aYmV6muJ/QROXV9lbVxadXj03"
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILTGsPFHwto7j6nU32l4xnomYXW6Kr4325riABaROdEY"
    with store.write() as connection:
        keys.add(connection, users.by_name(connection, "alice"), keys.PublicKey.parse(key))
    with store.read() as connection:
        known = work(lambda: keys.owner(connection, key))
        unknown = work(lambda: keys.owner(connection, other))
    assert known
    assert known == unknown
