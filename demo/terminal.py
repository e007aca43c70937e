"""What the demo shows: each command as it is typed, what it says while it runs, and what was expected of it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from store.errors import SlipwayError

_WIDTH = 100
"""Characters in a line of explanation, so that it reads well in a terminal of any size."""


class StepError(SlipwayError):
    """A step of the demo did not come out as it should."""


def explain(text: str) -> None:
    """Say what comes next."""
    print(f"\n{textwrap.fill(text, _WIDTH)}", flush=True)


def show_command(line: str) -> None:
    """Show a command as it is typed."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}$ {line}{plain}", flush=True)


def run(line: str, environment: Mapping[str, str], folder: Path) -> str:
    """Show a command line, run it in a shell as it stands there, show its output as it comes, and return that.

    Raises StepError when it fails.
    """
    show_command(line)
    said = bytearray()
    with subprocess.Popen(
        ["sh", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=folder,
    ) as process:
        assert process.stdout is not None
        try:
            while chunk := os.read(process.stdout.fileno(), 65536):
                said += chunk
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise StepError(f"expected '{line}' to succeed, but its exit status is {process.returncode}")
    return said.decode(errors="replace")


def check(expectation: str, fulfilled: bool, instead: str) -> None:
    """Say that an expectation is fulfilled. Raises StepError, with what was found instead, when it is not."""
    if not fulfilled:
        raise StepError(f"expected that {expectation}, but {instead}")
    print(f"(checked: {expectation})", flush=True)
