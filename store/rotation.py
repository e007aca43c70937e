"""Replacing the secret key while the server runs: every sealed value is sealed again, in batches.

From the first step on both keys are found and new values are sealed under the new one; only when nothing is left under
the former key is it forgotten. So whatever step a crash comes after, every value opens, and the next start goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Row, select

from store import acme_accounts, configs, endpoints, installation_key, operations, secret_key
from store.database import Store
from store.errors import UsageError
from store.tables import acme_accounts as account_records
from store.tables import config_versions, installation
from store.tables import endpoints as endpoint_records
from store.tables import operations as operation_records

BATCH = 100
"""Values that are sealed again in one transaction: a few milliseconds in which others wait."""

SEALED: Mapping[Column[Any], Callable[[Row[Any]], str]] = {
    config_versions.c.sealed: lambda row: configs.place(row.app_id, row.number),
    operation_records.c.request: lambda row: operations.place(row.id),
    endpoint_records.c.certificate: lambda row: endpoints.place(row.host or str(row.tcp_port)),
    account_records.c.sealed_key: lambda row: acme_accounts.place(row.directory),
    installation.c.cache_key: lambda row: installation_key.PLACE,
}
"""Every sealed column, with the place that a row's value is bound to. An empty value is none."""


_one_at_a_time = threading.Lock()


def rotate(store: Store, new: bytes) -> int:
    """Replace the key by `new`, and return how many values were sealed again. Raises SealError, UsageError."""
    with _one_at_a_time:
        if new in store.seal.keys:
            raise UsageError("that is the key that the records are sealed with already; make another one")
        return sum(finish(store)) + sum(steps(store, new))


def finish(store: Store) -> Iterator[int]:
    """End a replacement that a stop of the server has cut off; a step each time that the iterator is asked."""
    if len(store.seal.keys) > 1:
        yield from _seal_again(store)


def steps(store: Store, new: bytes) -> Iterator[int]:
    """Replace the key step by step; each yields how many values it has sealed again, and is durable."""
    former = store.seal.keys[0]
    secret_key.begin(store.folder, former, new)
    store.seal.use([new, former])
    yield 0
    yield from _seal_again(store)


def _seal_again(store: Store) -> Iterator[int]:
    for column, place in SEALED.items():
        yield from _column(store, column, place)
    secret_key.complete(store.folder, store.seal.keys[0])
    store.seal.use(store.seal.keys[:1])
    store.forget_what_was_overwritten()
    yield 0


def _column(store: Store, column: Column[Any], place: Callable[[Row[Any]], str]) -> Iterator[int]:
    (key,) = column.table.primary_key.columns
    last = None
    while True:
        with store.write() as connection:
            question = select(column.table).order_by(key).limit(BATCH)
            if last is not None:
                question = question.where(key > last)
            rows = connection.execute(question).all()
            done = sum(_value(connection, store, row, column, place) for row in rows)
        if not rows:
            return
        last = getattr(rows[-1], key.name)
        yield done


def _value(
    connection: Connection, store: Store, row: Row[Any], column: Column[Any], place: Callable[[Row[Any]], str]
) -> bool:
    """Seal one value again unless it is sealed under the new key already; return whether that was needed."""
    sealed = getattr(row, column.name)
    if not sealed or store.seal.is_current(sealed, place(row)):
        return False
    again = store.seal.close(store.seal.open(sealed, place(row)), place(row))
    (key,) = column.table.primary_key.columns
    connection.execute(column.table.update().where(key == getattr(row, key.name)).values({column.name: again}))
    return True
