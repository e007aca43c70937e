"""A build takes no more of the machine than it may: memory, processors, time, output, and the disk."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.buildkit import cgroups
from builder.limits import Limits, MemoryLimitError, OutputLimitError, size
from demo.registry import Registry
from store.errors import CancelledError
from tests.builder.conftest import BOTH_BUILDERS, Log, Workbench, comes_true

Account = Callable[[Registry], dict[str, str]]

HUNGRY = "head -c 300000000 /dev/zero | tail"
"""tail(1) holds the last line, which has no end here."""


@BOTH_BUILDERS
class TestMemory:
    def test_a_step_that_needs_too_much_is_stopped_with_a_sentence(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        workbench.options = replace(workbench.options, limits=Limits(memory=64 << 20))
        text = f"FROM {private_small}\nRUN true\nRUN {HUNGRY}\n"
        with pytest.raises(
            MemoryLimitError, match=r"^Dockerfile line 3: RUN head .* needed more than the 64 MiB of memory"
        ) as caught:
            workbench.build({"Dockerfile": text}, account(registry))
        assert "SLIPWAY_BUILD_MEMORY" in str(caught.value)

    def test_it_says_so_too_where_the_step_ends_by_itself(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        """As make(1) does when a compiler was killed."""
        workbench.options = replace(workbench.options, limits=Limits(memory=64 << 20))
        text = f"FROM {private_small}\nRUN {HUNGRY} || (sleep 1; exit 2)\n"
        with pytest.raises(MemoryLimitError, match=r"^Dockerfile line 2: .* needed more than the 64 MiB of memory"):
            workbench.build({"Dockerfile": text}, account(registry))

    def test_an_ordinary_failure_is_told_as_one(
        self, workbench: Workbench, private_small: str, registry: Registry, account: Account
    ) -> None:
        workbench.options = replace(workbench.options, limits=Limits(memory=64 << 20))
        with pytest.raises(Exception, match=r"RUN exit 2 ended with exit status 2\.$"):
            workbench.build({"Dockerfile": f"FROM {private_small}\nRUN exit 2\n"}, account(registry))


def test_a_step_that_ends_while_it_is_looked_at_is_not_taken_for_the_whole_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = cgroups.Watch(Limits(memory=64 << 20), "mark.invalid", stop=lambda: None)
    with subprocess.Popen(["sleep", "600"], env={cgroups.VARIABLE: "mark.invalid"}) as step:
        process, read = Path(f"/proc/{step.pid}"), Path.read_text

        def read_too_late(path: Path) -> str:
            if path == process / "cgroup":
                step.kill()
                assert comes_true(lambda: "State:\tZ" in read(process / "status"))
            return read(path)

        monkeypatch.setattr(Path, "read_text", read_too_late)
        watch._look()
    assert not watch.stopped


@pytest.mark.parametrize("builder", ["buildkit"])
def test_stages_side_by_side_have_the_memory_together(
    workbench: Workbench, private_base: str, registry: Registry, account: Account
) -> None:
    workbench.options = replace(workbench.options, limits=Limits(memory=96 << 20))
    text = ""
    for number in range(3):
        # Not the same command, which BuildKit would run once for all of them.
        hold = f"held = bytearray(60 << 20); import time; time.sleep(600 + {number})"
        text += f'FROM {private_base} AS s{number}\nRUN ["python3", "-c", "{hold}"]\nRUN touch /{number}\n'
    text += f"FROM {private_base}\n" + "".join(f"COPY --from=s{number} /{number} /\n" for number in range(3))
    with pytest.raises(MemoryLimitError, match=r"^The Dockerfile's build was stopped, since .* 96 MiB of memory"):
        workbench.build({"Dockerfile": text}, account(registry))


@BOTH_BUILDERS
def test_the_processors_of_a_build_are_limited(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    """The kernel is told half a processor for the step that sleeps."""
    workbench.options = replace(workbench.options, limits=Limits(cpus=0.5))
    nap = f"{8_000_000 + os.getpid()}"
    cancelled = threading.Event()
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            text = f"FROM {private_small}\nRUN sleep {nap}\n"
            workbench.build({"Dockerfile": text}, account(registry), cancelled=cancelled)
        except CancelledError as error:
            outcome.append(error)

    building = threading.Thread(target=run)
    building.start()
    try:
        assert comes_true(lambda: _quota_of(f"sleep\0{nap}\0") in ("50000", "50000 100000"))
    finally:
        cancelled.set()
        building.join(60)
    assert len(outcome) == 1


def _quota_of(command: str) -> str:
    """Return what the kernel's control group for processors says of the process with this command line, if any."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_text() != command:
                continue
            for line in (process / "cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                for file in (f"/sys/fs/cgroup/cpu{path}/cpu.cfs_quota_us", f"/sys/fs/cgroup{path}/cpu.max"):
                    if ("cpu" in controllers.split(",") or not controllers) and Path(file).exists():
                        return Path(file).read_text().strip()
        except OSError:
            continue
    return ""


@pytest.mark.parametrize("builder", ["classic"])  # BuildKit cuts a step's output off itself
def test_a_build_that_prints_without_end_is_stopped(
    workbench: Workbench,
    private_small: str,
    registry: Registry,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("builder.limits.LONGEST_OUTPUT", 1 << 20)
    workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry))
    before = workbench.images(), workbench.containers()
    log = Log()
    text = f"FROM {private_small}\nRUN touch /a\nRUN while true; do echo over and over again; done\n"
    with pytest.raises(OutputLimitError, match="since it printed more than 1 MiB; look for a program in it that"):
        workbench.build({"Dockerfile": text}, account(registry), log=log)
    assert len(str(log)) <= 1 << 20
    assert comes_true(lambda: workbench.containers() == before[1])
    assert workbench.images() == before[0]


def test_sizes_are_told_in_units() -> None:
    assert [size(count) for count in (1, 2048, 64 << 20, 3 << 29)] == ["1 bytes", "2 KiB", "64 MiB", "1.5 GiB"]
