"""The secret key is replaced while the records are in use, and no crash and no reader in between loses a value."""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary

from store import apps, configs, operations, rotation, secret_key, users
from store.apps import App
from store.data_folder import DataFolder
from store.database import Store
from store.seal import Seal, SealError
from store.secret import Secret
from store.tables import metadata

VALUES = 5


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few values take several transactions."""
    monkeypatch.setattr(rotation, "BATCH", 2)


@pytest.fixture(params=["file", "environment"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> DataFolder:
    given = Secret(base64.b64encode(os.urandom(32)).decode()) if request.param == "environment" else None
    return DataFolder(tmp_path / "data", given)


@pytest.fixture
def store(folder: DataFolder) -> Iterator[Store]:
    opened = Store.create(folder)
    with opened.write() as connection:
        bob = users.add(connection, "bob")
        app = apps.create(connection, bob, "shop", environment=None, ports=None, usable=lambda _: True)
        for number in range(VALUES):
            configs.add(connection, opened.seal, app, {"A": Secret(f"value {number}")})
        operations.add(connection, opened.seal, app, bob.id, "configure", b"a request")
    yield opened
    opened.close()


def shop(store: Store) -> App:
    with store.read() as connection:
        return apps.by_handle(connection, "shop")


def everything(store: Store) -> list[bytes | str]:
    """Open every sealed value of some records."""
    found: list[bytes | str] = [store.own_key("test").reveal()]
    with store.read() as connection:
        app = apps.by_handle(connection, "shop")
        for number in range(1, VALUES + 1):
            found.append(configs.by_id(connection, store.seal, app, number).values["A"].reveal())
        found += [operations.request(connection, store.seal, each) for each in operations.unfinished(connection)]
    return found


def sealed_values(store: Store) -> list[bytes]:
    with store.read() as connection:
        return [
            getattr(row, column.name)
            for column in rotation.SEALED
            for row in connection.execute(column.table.select())
            if getattr(row, column.name)
        ]


def with_key(folder: DataFolder, key: bytes) -> DataFolder:
    return DataFolder(folder.root, folder.secret_key and Secret(base64.b64encode(key).decode()))


def test_every_column_that_holds_something_sealed_is_known() -> None:
    kept = {
        column for table in metadata.tables.values() for column in table.columns if type(column.type) is LargeBinary
    }
    assert kept == set(rotation.SEALED)


def test_after_it_the_former_key_opens_nothing_and_nothing_sealed_with_it_is_left(
    store: Store, folder: DataFolder
) -> None:
    before, former, sealed = everything(store), store.seal.keys[0], sealed_values(store)
    new = os.urandom(32)
    assert rotation.rotate(store, new) == len(sealed) == VALUES + 2
    assert everything(store) == before
    assert not folder.next_config_key.exists()
    old = Seal([former])
    assert not [value for value in sealed_values(store) if old.is_current(value, "x")]
    files = b"".join(path.read_bytes() for path in folder.root.rglob("*") if path.is_file())
    assert not [value for value in sealed if value in files], "also what was overwritten is gone"
    store.close()
    reopened = Store.open(with_key(folder, new))
    assert everything(reopened) == before
    reopened.close()
    if folder.secret_key is not None:
        with pytest.raises(SealError, match="use the new one"):
            Store.open(folder)


def test_a_crash_after_any_step_loses_nothing_and_the_next_start_ends_it(
    store: Store, folder: DataFolder, tmp_path: Path
) -> None:
    before, former, new = everything(store), store.seal.keys[0], os.urandom(32)
    store.close()

    def crash(after: int | None) -> tuple[DataFolder, int]:
        copy = replace(folder, root=tmp_path / f"crashed-after-{after}")
        shutil.copytree(folder.root, copy.root)
        crashed = Store.open(copy)
        done = len(list(islice(rotation.steps(crashed, new), after)))
        assert everything(crashed) == before
        crashed.close()
        return copy, done

    ended, last = crash(None)
    assert not ended.next_config_key.exists()
    for after in range(1, last):
        copy, _ = crash(after)
        # Whoever runs the server may have changed the variable by now, or not.
        for started_with in (former, new) if folder.secret_key else (former,):
            restarted = Store.open(with_key(copy, started_with))
            assert everything(restarted) == before
            restarted.close()
        restarted = Store.open(with_key(copy, started_with))
        list(rotation.finish(restarted))
        assert restarted.seal.keys == (new,)
        assert everything(restarted) == before
        restarted.close()


def test_readers_and_writers_go_on_meanwhile(store: Store, folder: DataFolder) -> None:
    app, other, stop = shop(store), Store.open(folder), threading.Event()
    written: list[int] = []
    failures: list[Exception] = []

    def use() -> None:
        try:
            while not stop.is_set():
                with store.write() as connection:
                    number = configs.add(connection, store.seal, app, {"A": Secret("new")}).number
                written.append(number)
                with other.read() as connection:
                    assert configs.current(connection, other.seal, app).values
        except Exception as error:
            failures.append(error)

    user = threading.Thread(target=use)
    user.start()
    key = b""
    for _ in range(3):
        key = os.urandom(32)
        rotation.rotate(store, key)
    stop.set()
    user.join()
    other.close()
    if folder.secret_key is None:
        assert failures == []
    assert written
    store.close()
    reopened = Store.open(with_key(folder, key))
    with reopened.read() as connection:
        for number in written:
            assert configs.by_id(connection, reopened.seal, app, number).values["A"].reveal() == "new"
    reopened.close()


def test_a_key_is_32_bytes_and_another_one() -> None:
    for text in ("", "hunter2", base64.b64encode(b"x" * 31).decode(), "not base64 at all!"):
        with pytest.raises(Exception, match="openssl rand -base64 32") as caught:
            secret_key.parse(Secret(text))
        assert not text or text not in str(caught.value)
