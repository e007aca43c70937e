"""What front doors count survives them, and adds up."""

import os
import signal
import threading

from gitserver.counters import Count, Counters


def test_what_a_killed_front_door_has_counted_stays_counted() -> None:
    counters = Counters(2)
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        first = counters.of(0)
        first.beat()
        first.add(Count.CONNECTIONS, 5)
        os.write(tell, b"!")
        signal.pause()
        os._exit(1)
    os.read(told, 1)
    assert [sign.process for sign in counters.signs()] == [child]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    counters.forget(0)
    counters.of(0).add(Count.CONNECTIONS)
    counters.of(1).add(Count.CONNECTIONS)
    assert counters.total(Count.CONNECTIONS) == 7
    assert counters.signs() == []


def test_threads_of_one_front_door_lose_no_count() -> None:
    counters = Counters()
    row = counters.of(0)

    def add() -> None:
        for _ in range(20_000):
            row.add(Count.BYTES_SENT, 3)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.total(Count.BYTES_SENT) == 4 * 20_000 * 3
