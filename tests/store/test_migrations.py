"""Records of an older version come through an upgrade whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from sqlalchemy import Engine

from store.database import MigrationError, connect, migrate

OLDEST = "0003"
"""The first version that anybody ran."""

ROWS = """
INSERT INTO installation VALUES (1, 'abcd1234');
INSERT INTO environments VALUES (1, 'alice', '2026-01-01 00:00:00');
INSERT INTO users VALUES (1, 'alice', 0, 1, '2026-01-01 00:00:00');
INSERT INTO memberships VALUES (1, 1);
INSERT INTO keys VALUES (1, 1, 'ssh-ed25519 AAAA', 'SHA256:x', '', '2026-01-01 00:00:00');
INSERT INTO apps VALUES (1, 'shop', 1, NULL, 1, '2026-01-01 00:00:00');
INSERT INTO config_versions VALUES (1, 1, 1, x'01', '2026-01-01 00:00:00');
INSERT INTO operations VALUES (1, 1, 1, 'deploy', 'succeeded', NULL, x'', NULL, '2026-01-01 00:00:00', NULL, NULL);
INSERT INTO releases VALUES
    (1, 1, 1, 1, 1, 'sha256:0', NULL, NULL, NULL, NULL, NULL, NULL, '{}', '2026-01-01 00:00:00');
INSERT INTO services VALUES (1, 'web', 1, 1024, 0, 0, 0);
INSERT INTO endpoints VALUES ('www.example.com', 1);
"""


@pytest.fixture
def old(tmp_path: Path) -> Engine:
    engine = connect(f"sqlite:///{tmp_path}/slipway.db")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(resources.files("store") / "migrations"))
    with engine.connect().execution_options(slipway_writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, OLDEST)
    with closing(sqlite3.connect(tmp_path / "slipway.db")) as raw:
        raw.executescript(ROWS)
    return engine


def counts(engine: Engine) -> dict[str, int]:
    tables = [line.split()[2] for line in ROWS.splitlines() if line.startswith("INSERT")]
    with engine.connect() as connection:
        return {table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in tables}


def test_an_upgrade_keeps_every_row(old: Engine) -> None:
    before = counts(old)
    assert set(before.values()) == {1}
    migrate(old)
    assert counts(old) == before
    with old.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("SELECT role FROM memberships").scalar() == "admin"


def test_records_that_do_not_agree_are_left_as_they_are(old: Engine, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "slipway.db")) as raw:
        raw.execute("DELETE FROM users")
        raw.commit()
    with pytest.raises(MigrationError, match="restore a backup"):
        migrate(old)
    with old.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == OLDEST
