"""Ctrl-C, SIGTERM and a closed terminal: each ends the demo, and none disturbs the cleaning up."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals() -> None:
    """From here on each of the signals raises SystemExit with the status that shells give it, 128 + its number."""
    for number in _SIGNALS:
        signal.signal(number, _end)


def hold_off_signals() -> None:
    """From here on signals do nothing: a second Ctrl-C would leave behind what the first one set out to remove."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
