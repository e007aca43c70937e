"""The schema, and what transactions promise."""

import threading
from importlib import resources
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from store import apps, configs, operations, users
from store.data_folder import DataFolder, DataFolderError
from store.database import Store, newest_version
from store.secret import Secret
from store.tables import endpoints, metadata


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(DataFolder(tmp_path / "data"))


def test_migrations_build_the_schema_that_the_code_knows(store: Store) -> None:
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_files_of_the_migrations_tell_the_newest_version() -> None:
    assert ScriptDirectory(str(resources.files("store") / "migrations")).get_current_head() == newest_version()


def test_endpoints_of_before_they_had_kinds_are_kept(tmp_path: Path) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(resources.files("store") / "migrations"))
    engine = create_engine(f"sqlite:///{tmp_path}/former.db")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0008")
        for statement in (
            "INSERT INTO environments (id, handle, created_at) VALUES (1, 'alice', CURRENT_TIMESTAMP)",
            "INSERT INTO apps (id, handle, environment_id, created_at) VALUES (7, 'shop', 1, CURRENT_TIMESTAMP)",
            "INSERT INTO endpoints (host, app_id) VALUES ('www.shop.example', 7)",
        ):
            connection.execute(text(statement))
        alembic.command.upgrade(config, "head")
        (kept,) = connection.execute(endpoints.select())
    engine.dispose()
    assert (kept.host, kept.app_id, kept.managed, kept.redirect) == ("www.shop.example", 7, False, False)
    assert (kept.certificate, kept.tcp_port, kept.service) == (None, None, None)


def test_a_folder_that_was_not_prepared_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="slipway init"):
        Store.open(DataFolder(tmp_path))


def test_an_error_of_the_database_does_not_tell_what_a_statement_was_given(store: Store) -> None:
    with pytest.raises(IntegrityError) as failed, store.write() as connection:
        connection.execute(text("INSERT INTO apps (id, handle) VALUES (1, :planted)"), {"planted": "pl4nted-s3cret"})
    assert "INSERT INTO apps" in str(failed.value)
    assert "pl4nted-s3cret" not in str(failed.value)


def test_any_number_may_write_before_they_are_done_with_reading(store: Store) -> None:
    """Once they waited for each other's connections: each held one, and wanted another."""
    together = threading.Barrier(40)
    done: list[str] = []

    def read_and_write(number: int) -> None:
        with store.read() as connection:
            connection.execute(text("SELECT 1"))
            together.wait(20)
            with store.write() as writing:
                users.add(writing, f"user-{number}", admin=False)
            done.append("written")

    threads = [threading.Thread(target=read_and_write, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 40


def test_committed_means_on_disk_and_others_wait(store: Store) -> None:
    with store.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_transaction_that_raises_leaves_nothing(store: Store) -> None:
    def add_and_fail() -> None:
        with store.write() as connection:
            users.add(connection, "bob")
            raise KeyError

    with pytest.raises(KeyError):
        add_and_fail()
    with store.read() as connection:
        assert users.everybody(connection) == []


def test_writers_at_the_same_time_lose_nothing(store: Store) -> None:
    with store.write() as connection:
        app = apps.create(
            connection, users.add(connection, "bob"), "shop", environment=None, ports=None, usable=lambda _: True
        )

    def write() -> None:
        for _ in range(20):
            with store.write() as connection:
                configs.add(connection, store.seal, app, {"A": Secret("1")})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert configs.current(connection, store.seal, app).number == 80


def test_no_config_value_is_in_the_file(store: Store, tmp_path: Path) -> None:
    with store.write() as connection:
        bob = users.add(connection, "bob")
        app = apps.create(connection, bob, "shop", environment=None, ports=None, usable=lambda _: True)
        configs.add(connection, store.seal, app, {"A": Secret("hunter2hunter2")})
        operations.add(connection, store.seal, app, bob.id, "configure", b"hunter2hunter2")
    store.close()
    assert all(b"hunter2" not in file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())


def test_a_port_belongs_to_one_app(store: Store) -> None:
    with store.write() as connection:
        bob = users.add(connection, "bob")
        made = [
            apps.create(
                connection, bob, name, environment=None, ports=range(20000, 20004), usable=lambda port: port != 20001
            ).port
            for name in ("a", "b", "c")
        ]
        assert made == [20000, 20002, 20003]
        with pytest.raises(apps.AppError, match="SLIPWAY_PORTS"):
            apps.create(connection, bob, "d", environment=None, ports=range(20000, 20004), usable=lambda _: False)
