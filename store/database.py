"""The database: one SQLite file in WAL mode, through SQLAlchemy, its schema kept by Alembic.

Modules beside this one hold the questions and changes, as functions of a connection, so that a caller decides what
belongs into one transaction.
"""

from __future__ import annotations

import hmac
import itertools
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import resources
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import OperationalError

from store import audit, installation_key, secret_key
from store.data_folder import DataFolder
from store.errors import SlipwayError
from store.reserve import DiskFullError
from store.seal import Seal, SealError
from store.secret import Secret
from store.tables import installation

BUSY_MILLISECONDS = 10_000
"""How long a writer waits for another one; each holds the lock for milliseconds."""


POOLED = 32
"""Connections that are kept open. More are made when they are needed, and none is waited for: whoever reads may have to
write before they are done, and would wait for others who wait for the same."""


class MigrationError(SlipwayError):
    """The records of an older version cannot be taken over. Nothing was changed."""


class Store:
    """The records of one server: its database, and the seal for what is encrypted there."""

    def __init__(self, engine: Engine, folder: DataFolder, seal: Seal) -> None:
        self._engine = engine
        self.folder = folder
        self.seal = seal
        self._writes = itertools.count(1)
        # SQLite does not queue writers: each sleeps and tries again, and the unlucky ones for long.
        self._writing = threading.RLock()
        self.generation = 0
        """Another number after each transaction that may have changed something, of this process."""
        with self.write() as connection:
            self._own_key = installation_key.ensure(connection, seal)

    @classmethod
    def open(cls, folder: DataFolder) -> Store:
        """Open a prepared data folder and bring its schema up to date.

        Raises DataFolderError for a folder that is not prepared, SealError for a key that cannot be used.
        """
        folder.require()
        return cls._open(folder, secret_key.load(folder))

    @classmethod
    def create(cls, folder: DataFolder) -> Store:
        """Prepare a data folder; keep what is there."""
        folder.create()
        store = cls._open(folder, secret_key.create(folder))
        with store.write() as connection:
            if connection.execute(select(installation.c.instance)).first() is None:
                connection.execute(installation.insert().values(instance=secrets.token_hex(4)))
            store._own_key = installation_key.ensure(connection, store.seal)
        return store

    @classmethod
    def _open(cls, folder: DataFolder, keys: Sequence[bytes]) -> Store:
        engine = connect(f"sqlite:///{folder.database}")
        migrate(engine)
        folder.database.chmod(0o600)
        return cls(engine, folder, Seal(keys, reload=partial(secret_key.load, folder)))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection whose questions all see the same moment."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is durable when the block has ended, and undone if it raises.

        An entry of the audit log that is to be made (`store.audit`) goes with it. Raises DiskFullError where there is
        no room for it.
        """
        try:
            with (
                self._writing,
                self._engine.connect().execution_options(slipway_writes=True) as connection,
                connection.begin(),
            ):
                yield connection
                deed = audit.settle(connection)
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise DiskFullError from error
            raise
        finally:
            self.generation = next(self._writes)
        if deed is not None:
            deed.to_enter = False

    def probe(self) -> None:
        """Write something that changes nothing; raises what a write raises when the records cannot be written."""
        with self.write() as connection:
            connection.execute(installation.update().values(instance=installation.c.instance))

    def instance(self) -> str:
        """Return the id that marks this server's containers."""
        with self.read() as connection:
            return str(connection.execute(select(installation.c.instance)).scalar_one())

    def own_key(self, purpose: str) -> Secret:
        """Return a key of this installation for one purpose: always the same, and known to nobody else."""
        if self._own_key is None:
            raise SealError("the records are no installation's; prepare the data folder with slipway init")
        return Secret(hmac.digest(self._own_key, purpose.encode(), "sha256").hex())

    def forget_what_was_overwritten(self) -> None:
        """Leave nothing of former values in the database's write-ahead log (sqlite.org/wal.html#ckpt)."""
        with self._engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def connect(url: str) -> Engine:
    """Return an engine for `url`, set up so that committed means on disk."""
    # An error that ends in a log tells the statement, and never what it was given.
    engine = sqlalchemy.create_engine(url, hide_parameters=True, pool_size=POOLED, max_overflow=-1)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        # The driver's own transactions begin at the first write, too late for a read that a write depends on.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        # In WAL mode NORMAL may lose the last transactions in a power cut (sqlite.org/pragma.html#pragma_synchronous).
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # What is deleted or replaced may be a secret, so nothing of it stays in the file.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("slipway_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def newest_version() -> str:
    """Return the version of the schema that the migrations lead to, which their files' names begin with."""
    versions = resources.files("store") / "migrations" / "versions"
    return max(file.name for file in versions.iterdir() if file.name.endswith(".py")).partition("_")[0]


def _version(engine: Engine) -> str | None:
    """Return the version that the schema has, None where there are no records yet."""
    with engine.connect() as connection:
        if connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").first() is None:
            return None
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return None if version is None else str(version)


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version; does nothing when it is there already.

    SQLite changes a table by making a new one, and dropping the old one would delete whatever refers to its rows. So
    foreign keys are not enforced meanwhile, but checked at the end (sqlite.org/lang_altertable.html#otheralter).
    """
    if _version(engine) == newest_version():
        return
    # Imported here: it takes longer than all else that opening records takes, and nearly always there is nothing to do.
    import alembic.command
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", str(resources.files("store") / "migrations"))
    with engine.connect().execution_options(slipway_writes=True) as connection:
        # Before the transaction, in which SQLite would take no notice of it.
        connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")
                if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise MigrationError(
                        f"the records cannot be brought to this version: a row of {broken[0]} refers to none of "
                        f"{broken[2]}; nothing was changed, so go on with the former version, or restore a backup"
                    )
        finally:
            connection.connection.cursor().execute("PRAGMA foreign_keys = ON")
