"""One command in a container of its own, on the real engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from releaser.engine import Engine
from releaser.one_off import OutOfTimeError, run_once
from releaser.release import Release
from releaser.releaser import TooManyCommandsError
from releaser.terminal import Size
from store.errors import CancelledError
from tests.releaser.conftest import House


class Run:
    """What came of a command."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.out: list[str] = []
        self.err: list[str] = []
        self.cancelled = threading.Event()

    def __call__(self, command: Sequence[str], release: Release | None = None, seconds: float | None = None) -> int:
        with Engine(self._house.engine) as engine:
            return run_once(
                engine,
                release or self._house.release({"COLOUR": "grün"}),
                "before_deploy",
                command,
                out=self.out.append,
                err=self.err.append,
                cancelled=self.cancelled,
                seconds=seconds,
            ).exit_status

    @property
    def left_over(self) -> list[str]:
        with Engine(self._house.engine) as engine:
            return engine.one_offs(self._house.instance)


@pytest.fixture
def run(house: House) -> Run:
    return Run(house)


def test_it_has_the_config_says_all_and_leaves_nothing(run: Run) -> None:
    status = run(["/bin/sh", "-c", 'echo "$COLOUR $APTIBLE_PROCESS_TYPE"; seq 50000; echo oops >&2; exit 7'])
    assert status == 7
    assert "".join(run.out).splitlines() == ["grün before_deploy", *map(str, range(1, 50_001))]
    assert "".join(run.err) == "oops\n"
    assert run.left_over == []


def test_it_is_killed_when_somebody_says_so(run: Run, house: House) -> None:
    def stop() -> None:
        while not run.out:
            pass
        run.cancelled.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(CancelledError):
        run(["/bin/sh", "-c", "echo begun; exec sleep 600"])
    stopper.join()
    assert run.left_over == []


def test_it_is_killed_when_its_time_is_up(run: Run) -> None:
    with pytest.raises(OutOfTimeError, match="more than 1 s"):
        run(["sleep", "600"], seconds=1)
    assert run.left_over == []


def test_a_server_that_comes_back_clears_it_away_and_reconciling_does_not(run: Run, house: House) -> None:
    release = house.deploy()
    begun = threading.Event()

    def begin() -> None:
        with Engine(house.engine) as engine:
            run_once(
                engine,
                release,
                "ssh",
                ["/bin/sh", "-c", "echo begun; exec sleep 600"],
                out=lambda _: begun.set(),
                err=run.err.append,
                cancelled=run.cancelled,
                seconds=None,
            )

    runner = threading.Thread(target=begin)
    runner.start()
    assert begun.wait(60)
    house.releaser.mend(release)
    assert len(run.left_over) == 1
    assert house.releaser.restore([release]) == {}
    runner.join()
    assert run.left_over == []
    assert house.answer() == "hello"


class Hand:
    """Somebody who types nothing until they are told to stop."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[bytes | Size]:
        self._stopped.wait(60)
        return iter(())

    def close(self) -> None:
        self._stopped.set()


def test_an_app_runs_so_many_commands_at_once_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("releaser.releaser.MOST_COMMANDS", 1)
    release, begun, gone, hand = house.deploy(), threading.Event(), threading.Event(), Hand()
    ended: list[int] = []

    def run(out: Callable[[bytes], None]) -> int:
        command = ["echo begun; cat; exit 4"]
        return house.releaser.run_command(release, command, None, typed=hand, out=out, err=lambda _: None, gone=gone)

    first = threading.Thread(target=lambda: ended.append(run(lambda _: begun.set())))
    first.start()
    assert begun.wait(60)
    with pytest.raises(TooManyCommandsError, match="1 commands run in containers of shop already"):
        run(lambda _: None)
    hand.close()
    first.join()
    assert ended == [4], "its input ended, and it went on to its end"
