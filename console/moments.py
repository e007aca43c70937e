"""Moments as people write them: a date, a date with a time (UTC), or so many days or hours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from store.errors import UsageError

_SPAN = re.compile(r"([1-9]\d{0,4})([dh]?)")


def after(text: str, moment: datetime) -> datetime:
    """Read a date, or a span of time after `moment`: 90, 90d, 12h. Raises UsageError."""
    span = _span(text)
    return moment + span if span else _date(text)


def before(text: str, moment: datetime) -> datetime:
    """Read a date, or a span of time before `moment`: 7, 7d, 12h. Raises UsageError."""
    span = _span(text)
    return moment - span if span else _date(text)


def _span(text: str) -> timedelta | None:
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    return timedelta(hours=int(match[1])) if match[2] == "h" else timedelta(days=int(match[1]))


def _date(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text[:40]!r} is not a time; write days (90 or 90d), hours (12h), or a date such as 2027-01-31"
        ) from None
