"""Apps that are renamed and deprovisioned: what of them stays, and for whom."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import pytest
from sqlalchemy import text

from store import access, apps, audit, configs, operations, users
from store.audit import Deed
from store.data_folder import DataFolder
from store.database import Store, connect, migrate
from store.errors import UsageError
from store.releases import Artifact, add, of_app
from store.roles import Role
from store.secret import Secret
from store.users import User


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(DataFolder(tmp_path / "data"))


@pytest.fixture
def bob(store: Store) -> User:
    with store.write() as connection:
        return users.add(connection, "bob")


def make(store: Store, owner: User, handle: str) -> apps.App:
    with store.write() as connection:
        return apps.create(
            connection, owner, handle, environment=None, ports=range(20000, 20002), usable=lambda _: True
        )


def test_a_deleted_app_gives_name_and_port_back_and_leaves_its_operations_to_its_own_people(
    store: Store, bob: User
) -> None:
    with audit.accounted(store.write, Deed("bob", audit.LOCAL, "apps:create")):
        first = make(store, bob, "shop")
    with store.write() as connection:
        stranger, colleague = users.add(connection, "stranger"), users.add(connection, "colleague")
        access.grant_app(connection, colleague, first.id, Role.READ)
        operation = operations.add(connection, store.seal, first, bob.id, "deploy", b"")
        config = configs.add(connection, store.seal, first, {"A": Secret("1")})
        add(connection, first, 1, operation, config, Artifact(image="sha256:1"))
        operations.finish(connection, operation, "succeeded")
        apps.delete(connection, first)
        apps.delete(connection, first)
    second = make(store, bob, "shop")
    assert (second.port, second.id != first.id) == (first.port, True)
    with store.read() as connection:
        assert apps.of_user(connection, bob) == [second] == apps.everywhere(connection)
        assert [app.id for app in apps.deprovisioned(connection)] == [first.id]
        assert operations.by_id(connection, operation.id).status == "succeeded"
        assert of_app(connection, first) == []
        assert [entry.app for entry in audit.entries(connection, limit=5)] == ["shop"]
        assert configs.current(connection, store.seal, first).values == {}
        assert apps.reachable_by_id(connection, bob, first.id) is None
        assert apps.reachable_by_id(connection, bob, first.id, deprovisioned=True) is not None
        assert apps.reachable_by_id(connection, colleague, first.id, deprovisioned=True) is not None
        assert apps.reachable_by_id(connection, stranger, first.id, deprovisioned=True) is None
        assert [grant.app for grant in access.grants(connection) if grant.user == "colleague"] == [None]
        with pytest.raises(apps.NoSuchAppError):
            apps.require(connection, first.id)
        assert apps.require(connection, second.id) == second


def test_a_name_is_one_live_apps_alone(store: Store, bob: User) -> None:
    shop, other = make(store, bob, "shop"), make(store, bob, "other")
    with store.write() as connection:
        with pytest.raises(apps.AppError, match="taken"):
            apps.rename(connection, other, "shop")
        with pytest.raises(UsageError):
            apps.rename(connection, other, "Not A Name")
        assert apps.rename(connection, other, "other").handle == "other"
        renamed = apps.rename(connection, shop, "store")
        assert (renamed.id, renamed.handle, renamed.port) == (shop.id, "store", shop.port)
        assert apps.rename(connection, other, "shop").handle == "shop"


def test_the_migration_keeps_what_refers_to_an_app(tmp_path: Path) -> None:
    old = connect(f"sqlite:///{tmp_path / 'old.db'}")
    config = alembic.config.Config()
    config.set_main_option("script_location", "store:migrations")
    with old.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0005")
        connection.execute(text("INSERT INTO environments (id, handle, created_at) VALUES (1, 'bob', '2026-01-01')"))
        connection.execute(
            text("INSERT INTO apps (id, handle, environment_id, created_at) VALUES (7, 'shop', 1, '2026-01-01')")
        )
        connection.execute(
            text(
                "INSERT INTO operations (id, app_id, type, status, request, created_at) "
                "VALUES (9, 7, 'deploy', 'succeeded', x'', '2026-01-01')"
            )
        )
    migrate(old)
    with old.begin() as connection:
        assert connection.execute(text("SELECT id, app_id FROM operations")).all() == [(9, 7)]
        assert connection.execute(text("SELECT id, handle, deleted_at FROM apps")).all() == [(7, "shop", None)]
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    old.dispose()
