"""Replacing the secret key, and what is told about it; the same while a server runs and while none does."""

from __future__ import annotations

import time
from collections.abc import Callable

from store import rotation, secret_key
from store.data_folder import DataFolder
from store.database import Store
from store.secret import Secret


def rotate(data: DataFolder, read: Callable[[], Secret]) -> str:
    """Replace the key of a data folder that no server serves; see `rotate_in`."""
    store = Store.open(data)
    try:
        return rotate_in(store, read)
    finally:
        store.close()


def rotate_in(store: Store, read: Callable[[], Secret]) -> str:
    """Replace the key of records and return what to tell. `read` is asked for the new key if the environment gives it.

    Raises SlipwayError.
    """
    given = store.folder.secret_key is not None
    new = secret_key.parse(read()) if given else secret_key.generate()
    started = time.monotonic()
    count = rotation.rotate(store, new)
    told = f"Sealed {count} values again in {time.monotonic() - started:.1f} s; the former key opens nothing any more."
    return f"{told} Set {secret_key.VARIABLE} to the new key before the next start." if given else told
