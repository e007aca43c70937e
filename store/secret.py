"""A value that must not be printed by accident."""

from __future__ import annotations

import hmac
from typing import NoReturn

SHOWN = "[secret]"
"""What stands wherever a secret would have stood."""


class Secret:
    """A string whose `str`, `repr` and format show nothing, and which no pickle carries away.

    `reveal()` is the one way to the value, so that a search for that word finds every place where a secret leaves its
    wrapping.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return SHOWN

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
