"""Programs in the background are awaited by their words, and do not outlive whoever started them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.process import Process, ProgramError


def test_a_program_that_ends_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "echo the port is taken; exit 3"], log=tmp_path / "log")
    with pytest.raises(ProgramError, match=r"sh ended with exit status 3.*\n.*the port is taken"):
        process.wait_for("ready")


def test_a_program_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    process = Process(["sleep", "600"], log=tmp_path / "log")
    with pytest.raises(ProgramError, match="was not ready after 0 seconds"):
        process.wait_for("ready", 0)
    assert process.exit_status == -signal.SIGTERM


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], log=tmp_path / "log")
    process.wait_for("^ready$")
    assert process.stop(0.1) == -signal.SIGKILL


def test_only_what_this_run_says_counts(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("ready, said the run before\n")
    with Process(["sh", "-c", "echo starting; exec sleep 600"], log=tmp_path / "log") as process:
        process.wait_for("starting")
        assert process.output() == "starting\n"


def test_a_program_goes_when_its_starter_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from demo.process import Process\n"
        "process = Process(['sh', '-c', 'echo ready; exec sleep 600'], log=Path(sys.argv[1]))\n"
        "process.wait_for('ready'); print(process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    starter = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "log"], capture_output=True, text=True, check=False, timeout=60
    )
    assert starter.returncode == -signal.SIGKILL, starter.stderr
    descriptor = pidfd(int(starter.stdout))
    if descriptor is not None:
        with os.fdopen(descriptor) as ending:
            assert select_readable(ending.fileno()), "the program is still there"


def pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def select_readable(descriptor: int) -> bool:
    """Wait for a process to end: a pidfd is readable then (pidfd_open(2))."""
    return bool(select.select([descriptor], [], [], 30)[0])
