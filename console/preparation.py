"""`slipway init`: a data folder with its keys, its records, and a first administrator."""

from __future__ import annotations

from store import keys, users
from store.data_folder import DataFolder
from store.database import Store
from store.errors import UsageError
from store.keys import PublicKey


def prepare(data: DataFolder, key_text: str, name: str) -> str:
    """Prepare a data folder and return what to tell about it; one that is prepared for the same key is left alone.

    Raises UsageError for a text that is no public key, a bad name, or a folder that is prepared for somebody else.
    """
    key = PublicKey.parse(key_text)
    store = Store.create(data)
    try:
        with store.write() as connection:
            if not users.everybody(connection):
                user = users.add(connection, name, admin=True)
                keys.add(connection, user, key)
                return f"Prepared {data.root}; {name} is its administrator, with {key.fingerprint}."
            if keys.owner(connection, key.key):
                return f"{data.root} is prepared already."
    finally:
        store.close()
    raise UsageError(
        f"{data.root} is prepared already, for another key; add users with: "
        f"slipway users:add NAME --key FILE.pub --data {data.root}"
    )
