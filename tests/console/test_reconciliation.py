"""When what runs is compared with the records, whatever the time that takes."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from console import reconciliation
from hooks.upkeep import Upkeep
from releaser.releaser import Releaser


class House:
    """Containers that somebody breaks at a bad moment: upkeep and releaser in one, since only their order matters."""

    overdue = False

    def __init__(self) -> None:
        self.containers = {("web", "running"), ("worker", "running")}
        self.comparisons = 0
        self.breaking: list[tuple[str, str]] = []
        """What dies once its app's turn in a comparison is over."""

    def restore(self) -> None:
        self.reconcile()

    def keep_proxy(self) -> None:
        """It runs."""

    def standing(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.containers)

    def reconcile(self) -> None:
        self.comparisons += 1
        self.containers = {("web", "running"), ("worker", "running")}
        self.containers -= set(self.breaking)
        self.breaking = []


def test_what_breaks_while_all_is_compared_is_mended_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(reconciliation, "PROXY_SECONDS", 0.0)
    house, looks = House(), 0

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal looks
            looks += 1
            if looks == 4:
                house.containers.remove(("web", "running"))
                house.breaking = [("worker", "running")]
            return looks > 10

    reconciliation.keep_agreeing(cast(Upkeep, house), cast(Releaser, house), Stopping())
    assert house.containers == {("web", "running"), ("worker", "running")}
    assert house.comparisons <= 5, "nothing is compared while nothing changes"
