"""What the records know nothing of is found, and so is a clock that went back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from console import leftovers
from store import apps, operations, users
from store.data_folder import DataFolder
from store.database import Store
from store.tables import now


def test_leftovers_and_a_clock_that_went_back(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    store = Store.create(folder)
    with store.write() as connection:
        bob = users.add(connection, "bob")
        app = apps.create(connection, bob, "shop", environment=None, ports=None, usable=lambda _: True)
        operation = operations.add(connection, store.seal, app, bob.id, "deploy", b"{}")
    (folder.repositories / f"{app.id}.git").mkdir()
    (folder.logs / f"{operation.id}.log").touch()
    assert leftovers.in_folder(store, folder) == []
    (folder.repositories / "77.git").mkdir()
    (folder.logs / "78.log").touch()
    assert leftovers.in_folder(store, folder) == ["logs/78.log", "repositories/77.git"]
    assert leftovers.clock_behind(store, now()) is None
    behind = leftovers.clock_behind(store, now() - timedelta(days=2))
    assert behind is not None
    assert behind > timedelta(days=1)
    store.close()
