"""The build context beside `git archive`, the same commit in turn: `python -m bench.build_context`.

Prints a table in Markdown: medians of one run, and the ratio to `git archive`, which is to be at most 0.8; and how much
memory this process holds at most with a context of 20 MB and with the large one.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from builder.context import stream
from builder.source import Source, open_tree

FILES = 20_000
FILE_BYTES = 10_000
ROUNDS = 7
MOST = 0.8
"""Times `git archive`."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.build_context", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of each (default %(default)s)")
    parser.add_argument("--read", nargs=2, metavar=("REPOSITORY", "COMMIT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        context(Source(Path(options.read[0]), options.read[1]))
        print(peak_kib())
        return
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        large, small = repository(Path(folder, "large"), FILES), repository(Path(folder, "small"), FILES // 10)
        timings = in_turn([lambda: archive(large), lambda: context(large)], options.rounds)
        theirs, ours = (statistics.median(timing) for timing in timings)
        machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
        print(f"{machine}; {FILES} files of {FILE_BYTES} bytes, medians of {options.rounds}\n")
        print("| | ms | ratio | to reach |\n|---|---|---|---|")
        print(f"| git archive | {theirs * 1000:.0f} | 1.00 | |")
        print(f"| build context | {ours * 1000:.0f} | {ours / theirs:.2f} | {MOST} |\n")
        print(f"peak memory: {memory(small)} MB with {FILES // 10} files, {memory(large)} MB with {FILES}")
        sys.exit(ours / theirs > MOST)


def repository(folder: Path, files: int) -> Source:
    """Make a repository with one packed commit of files that half compress, as sources and assets together do."""
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    chance = random.Random(1)
    for number in range(files):
        path = folder / f"module{number % 200}" / f"part{number % 7}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        half = chance.randbytes(FILE_BYTES // 2)
        path.write_bytes(half + half.hex().encode()[: FILE_BYTES - len(half)])
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0"]
    subprocess.run(["git", "-C", folder, "add", "--all"], check=True)
    subprocess.run(["git", "-C", folder, *identity, "commit", "--quiet", "--message", "All"], check=True)
    subprocess.run(["git", "-C", folder, "repack", "-a", "-d", "--quiet"], check=True)
    commit = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return Source(folder / ".git", commit.stdout.strip())


def in_turn(works: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Return seconds, so that whatever else the machine does meets all of them."""
    timings: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, timing in zip(works, timings, strict=True):
            started = time.perf_counter()
            work()
            timing.append(time.perf_counter() - started)
    return timings


def archive(source: Source) -> None:
    """Run git archive to nowhere."""
    words = ["git", f"--git-dir={source.repository}", "archive", source.commit]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def context(source: Source) -> None:
    """Make the context, and send it nowhere."""
    with Path(os.devnull).open("wb") as nowhere, open_tree(source) as tree:
        for piece in stream(tree, ".", extra={}):
            nowhere.write(piece)


def memory(source: Source) -> int:
    """Return the most that a process of its own holds while it makes the context, in MB."""
    words = [sys.executable, "-m", "bench.build_context", "--read", str(source.repository), source.commit]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) >> 10


def peak_kib() -> int:
    """Return this process's largest resident size in KiB (proc_pid_status(5), VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("no VmHWM in /proc/self/status")


if __name__ == "__main__":
    main()
