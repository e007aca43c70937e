"""Encryption of secrets in the records: AES-256-GCM.

Each ciphertext is bound to the place it belongs to (GCM's associated data), so that a row copied over another app's row
does not open. There is one key, but while it is being replaced (`store.rotation`) there are two that open.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.errors import SlipwayError

KEY_BYTES = 32
"""AES-256."""

_FORMAT = b"\x01"
"""First byte of every ciphertext, so that a later format can be told apart."""

_NONCE_BYTES = 12
"""What NIST SP 800-38D recommends for GCM; random per message, far below 2^32 messages a key."""


class SealError(SlipwayError):
    """The key is missing, malformed, or not the one that the records were sealed with."""


class Seal:
    """Seals under the first of its keys, each of 32 bytes, and opens under any of them. It may be shared by threads.

    `reload` returns the keys as they are by now: another process may have replaced them.
    """

    def __init__(self, keys: Sequence[bytes], reload: Callable[[], Sequence[bytes]] | None = None) -> None:
        self._reload = reload
        self.use(keys)

    def use(self, keys: Sequence[bytes]) -> None:
        """From now on, seal under the first of these keys and open under any."""
        self.keys = tuple(keys)
        self._ciphers = tuple(AESGCM(key) for key in keys)

    def close(self, plain: bytes, place: str) -> bytes:
        """Encrypt `plain` for `place`, a text that says where the result is kept.

        To be called in the transaction that keeps the result, so that no rotation of the key comes in between.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._ciphers[0].encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Decrypt what `close` made for the same place; raises SealError otherwise."""
        if not sealed.startswith(_FORMAT):
            raise SealError(f"{place} was sealed by a newer version of slipway; upgrade this one")
        plain = self._try(sealed, place)
        if plain is None and self._reload is not None and tuple(keys := self._reload()) != self.keys:
            self.use(keys)
            plain = self._try(sealed, place)
        if plain is None:
            raise SealError(
                f"{place} does not open with the secret key; put back the key that belongs to these records"
            )
        return plain

    def is_current(self, sealed: bytes, place: str) -> bool:
        """Return whether `sealed` opens under the first key."""
        return _decrypted(self._ciphers[0], sealed, place) is not None

    def _try(self, sealed: bytes, place: str) -> bytes | None:
        for cipher in self._ciphers:
            if (plain := _decrypted(cipher, sealed, place)) is not None:
                return plain
        return None


def _decrypted(cipher: AESGCM, sealed: bytes, place: str) -> bytes | None:
    nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, body, place.encode())
    except InvalidTag:
        return None
