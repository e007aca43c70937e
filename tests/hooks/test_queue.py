"""Who runs when. Threads are brought to known places with events, never with sleeps."""

import threading
from collections.abc import Callable

import pytest

from hooks.queue import Job, Queue

SOON = 10.0
"""Seconds after which a thread that should have got somewhere counts as stuck."""


class Gate:
    """A job's work that stops in the middle until it is let through."""

    def __init__(self, order: list[int], number: int) -> None:
        self._order, self._number = order, number
        self.entered, self.through = threading.Event(), threading.Event()

    def __call__(self, cancelled: threading.Event) -> None:
        self._order.append(self._number)
        self.entered.set()
        while not (self.through.wait(0.005) or cancelled.is_set()):
            pass


@pytest.fixture
def order() -> list[int]:
    return []


def job(number: int, app_id: int, run: Callable[[threading.Event], None]) -> Job:
    return Job(number, app_id, run)


def test_one_at_a_time_per_app_in_order_and_apps_beside_each_other(order: list[int]) -> None:
    queue = Queue(limit=8)
    gates = {number: Gate(order, number) for number in (1, 2, 3, 4)}
    assert queue.add(job(1, 7, gates[1])) is None
    waited_for = queue.add(job(2, 7, gates[2]))
    assert waited_for is not None
    assert waited_for.number == 1
    waited_for = queue.add(job(3, 7, gates[3]))
    assert waited_for is not None
    assert waited_for.number == 2
    assert queue.add(job(4, 8, gates[4])) is None
    assert gates[1].entered.wait(SOON)
    assert gates[4].entered.wait(SOON)
    assert not gates[2].entered.is_set()
    for number in (1, 2, 3, 4):
        assert gates[number].entered.wait(SOON)
        gates[number].through.set()
    assert queue.drain(SOON)
    assert [number for number in order if number != 4] == [1, 2, 3]


def test_no_more_than_the_limit_run_at_once(order: list[int]) -> None:
    queue = Queue(limit=2)
    gates = [Gate(order, number) for number in range(4)]
    for number, gate in enumerate(gates):
        queue.add(job(number, number, gate))
    assert gates[0].entered.wait(SOON)
    assert gates[1].entered.wait(SOON)
    assert order in ([0, 1], [1, 0])
    for gate in gates:
        gate.through.set()
        assert gate.entered.wait(SOON)
    assert queue.drain(SOON)


def test_a_waiting_job_is_withdrawn_and_a_running_one_is_told(order: list[int]) -> None:
    queue = Queue(limit=2)
    running, waiting = Gate(order, 1), Gate(order, 2)
    queue.add(job(1, 7, running))
    queue.add(job(2, 7, waiting))
    assert running.entered.wait(SOON)
    assert not queue.withdraw(1)
    assert queue.withdraw(2)
    assert queue.cancel(1)
    assert queue.drain(SOON)
    assert order == [1]
    assert not queue.cancel(1)


def test_a_pause_waits_for_what_runs_and_lets_nothing_begin(order: list[int]) -> None:
    queue = Queue(limit=2)
    first, second = Gate(order, 1), Gate(order, 2)
    queue.add(job(1, 7, first))
    assert first.entered.wait(SOON)
    threading.Timer(0.01, first.through.set).start()
    with queue.paused():
        assert first.through.is_set()
        queue.add(job(2, 7, second))
        assert not second.entered.is_set()
    assert second.entered.wait(SOON)
    second.through.set()
    assert queue.drain(SOON)


def test_draining_starts_nothing_more_and_tells_whether_it_was_in_time(order: list[int]) -> None:
    queue = Queue(limit=1)
    first, second = Gate(order, 1), Gate(order, 2)
    queue.add(job(1, 7, first))
    queue.add(job(2, 8, second))
    assert first.entered.wait(SOON)
    assert not queue.drain(0.01)
    queue.cancel_all()
    assert queue.drain(SOON)
    assert order == [1]


def test_an_idle_app_is_held_and_a_busy_one_is_not(order: list[int]) -> None:
    queue = Queue(limit=8)
    busy, held = Gate(order, 1), Gate(order, 2)
    queue.add(job(1, 7, busy))
    assert busy.entered.wait(SOON)
    with queue.idle(7) as idle:
        assert not idle
    with queue.idle(7, seconds=0.01) as idle:
        assert not idle, "it does not wait for ever"
    with queue.idle(8) as idle:
        assert idle
        with queue.idle(8) as again:
            assert not again
        queue.add(job(2, 8, held))
        assert queue.waiting() == [2]
    assert held.entered.wait(SOON)
    threading.Timer(0.05, busy.through.set).start()
    with queue.idle(7, seconds=SOON) as idle:
        assert idle, "what ends soon is waited for"
    held.through.set()
    assert queue.drain(SOON)
    with queue.idle(8) as idle:
        assert not idle, "nothing is begun while the server stops"
