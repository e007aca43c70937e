"""A random key of the installation's own, sealed in its records: it stays the same when the secret key is replaced.

It tells at the start, too, whether the secret key is the one that these records are sealed with.
"""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, select

from store import configs
from store.seal import KEY_BYTES, Seal, SealError
from store.tables import config_versions, installation

PLACE = "the installation's own key"


def ensure(connection: Connection, seal: Seal) -> bytes | None:
    """Return the key, making one where there is none; None in records that are no installation yet.

    Raises SealError if the records were sealed with another secret key.
    """
    row = connection.execute(select(installation.c.id, installation.c.cache_key)).first()
    if row is None:
        return None
    try:
        if row.cache_key is not None:
            return seal.open(row.cache_key, PLACE)
        # Records of a former version: any value that is sealed tells whether the key belongs to them.
        version = connection.execute(select(config_versions).limit(1)).first()
        if version is not None:
            seal.open(version.sealed, configs.place(version.app_id, version.number))
    except SealError:
        raise SealError(
            "the secret key is not the one that the records are sealed with; if it was replaced, use the new one, "
            "otherwise put back the key that belongs to these records"
        ) from None
    key = secrets.token_bytes(KEY_BYTES)
    connection.execute(installation.update().values(cache_key=seal.close(key, PLACE)))
    return key
