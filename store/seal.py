"""Encryption of config values at rest: AES-256-GCM under a key file of mode 0600.

Each ciphertext is bound to the place it belongs to (GCM's associated data), so that a row copied over another app's row
does not open.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.errors import SlipwayError

_FORMAT = b"\x01"
"""First byte of every ciphertext, so that a later format can be told apart."""

_NONCE_BYTES = 12
"""What NIST SP 800-38D recommends for GCM; random per message, far below 2^32 messages a key."""


class SealError(SlipwayError):
    """The key is missing, malformed, or not the one that the records were sealed with."""


class Seal:
    """Seals and opens byte strings under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def create(cls, path: Path) -> Seal:
        """Make a new key file; keep the one that is there."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls.load(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(AESGCM.generate_key(bit_length=256)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Seal:
        """Read a key file.

        Raises SealError if it is missing or malformed, or if others than its owner may read it.
        """
        try:
            mode = path.stat().st_mode
            text = path.read_bytes()
        except OSError as error:
            raise SealError(f"the config key {path} cannot be read: {error.strerror}") from error
        if mode & 0o077:
            raise SealError(f"the config key {path} may be read by others; mend it with: chmod 600 {path}")
        try:
            return cls(base64.b64decode(text, validate=False))
        except (binascii.Error, ValueError) as error:
            raise SealError(f"the config key {path} is damaged; restore it from a backup") from error

    def close(self, plain: bytes, place: str) -> bytes:
        """Encrypt `plain` for `place`, a text that says where the result is kept."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Decrypt what `close` made for the same place; raises SealError otherwise."""
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if not sealed.startswith(_FORMAT):
                raise SealError(f"{place} was sealed by a newer version of slipway; upgrade this one")
            return self._cipher.decrypt(nonce, body, place.encode())
        except InvalidTag as error:
            raise SealError(
                f"{place} does not open with the config key; put back the key file that belongs to these records"
            ) from error
