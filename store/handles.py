"""Handles: the names of apps, users and environments."""

from __future__ import annotations

import re

from store.errors import UsageError

_HANDLE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def check_handle(handle: str, what: str) -> str:
    """Return `handle` if it can name `what` and be a DNS label (RFC 1035, section 2.3.1); raises UsageError."""
    if not _HANDLE.fullmatch(handle):
        raise UsageError(f"{handle[:80]!r} cannot be {what}; use up to 63 lower-case letters, digits and inner hyphens")
    return handle
