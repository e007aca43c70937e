"""The secret key that the records are sealed with: a file of the data folder, or given by SLIPWAY_SECRET_KEY.

While it is being replaced, a second file holds the new key sealed under the former one and the former one sealed under
the new. Whichever of the two a server is started with, it gets the other one from there.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path

from store.data_folder import DataFolder
from store.errors import UsageError
from store.seal import KEY_BYTES, Seal, SealError
from store.secret import Secret

VARIABLE = "SLIPWAY_SECRET_KEY"

_NEW, _FORMER = "the new secret key", "the former secret key"


def generate() -> bytes:
    """Return a new key."""
    return os.urandom(KEY_BYTES)


def parse(text: Secret) -> bytes:
    """Read a key as people hand it over: 32 bytes in base64 (RFC 4648). Raises UsageError."""
    try:
        key = base64.b64decode(text.reveal().strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageError("a secret key is 32 random bytes in base64; make one with: openssl rand -base64 32")
    return key


def create(folder: DataFolder) -> list[bytes]:
    """Return the keys, making a key file where there is none and none is given."""
    if folder.secret_key is None and not folder.config_key.exists():
        _write(folder.config_key, base64.b64encode(generate()) + b"\n", exclusive=True)
    return load(folder)


def load(folder: DataFolder) -> list[bytes]:
    """Return the key to seal under, and after it, while it is being replaced, the former one.

    Raises SealError for a key that is missing or malformed, or a file that others than its owner may read.
    """
    current = _given(folder.secret_key) if folder.secret_key else _from_file(folder.config_key)
    if not folder.next_config_key.exists():
        return [current]
    try:
        pair = json.loads(folder.next_config_key.read_bytes())
        new, former = (base64.b64decode(pair[name], validate=True) for name in ("new", "former"))
    except FileNotFoundError:  # the rotation has ended in this moment
        return load(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SealError(f"{folder.next_config_key} cannot be read; restore a backup") from error
    seal = Seal([current])
    if seal.is_current(new, _NEW):
        return [seal.open(new, _NEW), current]
    if seal.is_current(former, _FORMER):
        return [current, seal.open(former, _FORMER)]
    raise SealError(
        f"the secret key was being replaced when the server stopped, and {VARIABLE} is neither the former key nor the "
        "new one; set it to one of them, and the server ends the replacement"
    )


def begin(folder: DataFolder, former: bytes, new: bytes) -> None:
    """Have both keys found from now on, whatever happens. Durable when this returns."""
    pair = {"new": Seal([former]).close(new, _NEW), "former": Seal([new]).close(former, _FORMER)}
    text = json.dumps({name: base64.b64encode(sealed).decode() for name, sealed in pair.items()})
    _write(folder.next_config_key, text.encode())


def complete(folder: DataFolder, new: bytes) -> None:
    """Forget the former key. A key that is given by the environment is whoever's gave it to change."""
    if folder.secret_key is None:
        _write(folder.config_key, base64.b64encode(new) + b"\n")
    folder.next_config_key.unlink(missing_ok=True)
    _sync(folder.root)


def _given(text: Secret) -> bytes:
    try:
        return parse(text)
    except UsageError as error:
        raise SealError(f"{VARIABLE} cannot be used: {error}") from None


def _from_file(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()
    except OSError as error:
        raise SealError(f"the config key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise SealError(f"the config key {path} may be read by others; mend it with: chmod 600 {path}")
    try:
        return parse(Secret(text.decode("ascii", "replace")))
    except UsageError as error:
        raise SealError(f"the config key {path} is damaged; restore it from a backup") from error


def _write(path: Path, content: bytes, *, exclusive: bool = False) -> None:
    """Write a file that is there as a whole or as it was before, readable by its owner alone, and durable."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        if exclusive:
            os.link(partial, path)  # fails where another process was faster, whose key then counts
            partial.unlink()
        else:
            partial.rename(path)
    except FileExistsError:
        partial.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
