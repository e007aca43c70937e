"""Logs of operations are kept for so many days, and then told to be gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooks.log import LIMIT, Logs
from store.reserve import Reserve

DAY = 86_400


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path, Reserve(tmp_path / "reserve"), days=90)


def test_a_log_goes_after_its_days_and_whoever_asks_is_told(logs: Logs) -> None:
    for number in (1, 2, 3):
        logs.open(number).line(f"of operation {number}")
    for number in (1, 2):
        logs.close(number)
    ended = 1_000_000_000.0
    for number, days in ((1, 91), (2, 89), (3, 91)):
        os.utime(logs.path(number), (ended - days * DAY,) * 2)
    assert logs.expire(ended) == [1]
    assert logs.read(1) == "There is no log of operation 1: logs are kept for 90 days.\n"
    assert logs.read(2) == "of operation 2\n"
    assert logs.read(3) == "of operation 3\n", "what is under way is written to"
    logs.close(3)


def test_looking_through_all_logs_is_rare(logs: Logs) -> None:
    logs.open(1).line("old")
    logs.close(1)
    assert logs.expire() == []
    os.utime(logs.path(1), (0, 0))
    assert logs.expire() == [], "an hour has not gone by"
    assert logs.read(1) == "old\n"


def test_a_flood_is_cut_with_a_notice_and_the_servers_own_lines_still_come(logs: Logs) -> None:
    log = logs.open(4)
    for _ in range((LIMIT >> 20) + 10):
        log.write("y" * (1 << 20))
    log.line("Error: the build was cancelled")
    logs.close(4)
    kept = logs.read(4)
    assert len(kept) < LIMIT + (2 << 20)
    assert kept.count("the log is over 16 MiB; what follows is not kept") == 1
    assert kept.endswith("Error: the build was cancelled\n")
