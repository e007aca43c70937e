"""Records as an earlier version of the server kept them: the same rows under an earlier schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources

import alembic.command
import alembic.config

from store.data_folder import DataFolder
from store.database import connect


def make_older(folder: DataFolder, revision: str) -> None:
    """Put the records of a server that is stopped back to the schema of a migration, with what that knew of them."""
    older = folder.database.with_suffix(".older")
    engine = connect(f"sqlite:///{older}")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(resources.files("store") / "migrations"))
    with engine.connect().execution_options(slipway_writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(older)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("ATTACH ? AS newer", (str(folder.database),))
        tables = database.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'alembic%'"
        )
        for (table,) in tables.fetchall():
            columns = ", ".join(f'"{row[1]}"' for row in database.execute(f"PRAGMA main.table_info({table})"))
            database.execute(f"DELETE FROM main.{table}")
            database.execute(f"INSERT INTO main.{table} SELECT {columns} FROM newer.{table}")
        database.commit()
        database.execute("PRAGMA journal_mode = DELETE")
    for name in ("-wal", "-shm"):
        folder.database.with_name(folder.database.name + name).unlink(missing_ok=True)
    older.chmod(0o600)
    older.replace(folder.database)
