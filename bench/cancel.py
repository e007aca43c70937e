"""How soon a cancelled build's processes are gone: `python -m bench.cancel`.

Builds a step that sleeps, cancels it once it does, and looks until no process of that step is left; with the classic
builder and with BuildKit, in turn. Uses the engine that DOCKER_HOST names, else one of its own (as root).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import docker

from bench.endpoints import git_environment
from builder.build import build
from builder.options import Choice, Options
from builder.source import Source
from demo import base_image
from demo.engine import answering, private_engine
from store.errors import CancelledError
from store.secret import Secret

ROUNDS = 9
MOST_MS = 200.0
NAP = 6_000_000 + os.getpid()
"""Seconds that the step sleeps; a number by which its process can be told."""
PATIENCE_SECONDS = 60.0


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cancel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="builds with each (default %(default)s)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        engine = answering() or stack.enter_context(private_engine(folder / "engine"))
        client = stack.enter_context(closing(docker.DockerClient(engine)))
        base = f"slipway-bench-{uuid.uuid4().hex[:8]}:base"
        base_image.import_base_image(engine, base, base_image.SHELL)
        stack.callback(client.images.remove, base, force=True)
        source = commit(folder / "app", f"FROM {base}\nRUN echo asleep; sleep {NAP}\n")
        builders: tuple[Choice, ...] = ("classic", "buildkit")
        timings = {name: list[float]() for name in builders}
        for _ in range(options.rounds):
            for name in builders:
                timings[name].append(cancelled_build(engine, source, base, name) * 1000)
        left = client.api.containers(all=True), client.images.list(f"{base.partition(':')[0]}-built")
        machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Docker {client.version()['Version']}"
        print(f"{machine}; {options.rounds} builds each\n")
        print("| from the cancellation to the process's end, ms | median | most | to reach |\n|---|---|---|---|")
        for name, timing in timings.items():
            print(f"| {name} | {statistics.median(timing):.0f} | {max(timing):.0f} | {MOST_MS:.0f} |")
        print(f"\nleft behind: {len(left[0])} containers, {len(left[1])} images")
    sys.exit(any(left) or max(max(timing) for timing in timings.values()) > MOST_MS)


def commit(folder: Path, dockerfile: str) -> Source:
    """Commit one Dockerfile."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Sleep"]):
        subprocess.run(["git", *words], cwd=folder, env=git_environment(), check=True)
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return Source(folder / ".git", found.stdout.strip())


def cancelled_build(engine: str, source: Source, base: str, builder: Choice) -> float:
    """Return the seconds from the cancellation until the step's process has ended."""
    cancelled = threading.Event()

    def run() -> None:
        with suppress(CancelledError):
            build(
                source,
                engine=engine,
                config={},
                tag=f"{base.partition(':')[0]}-built:1",
                labels={},
                say=lambda _: None,
                cancelled=cancelled,
                time_limit=PATIENCE_SECONDS,
                cache_key=Secret("of the benchmark"),
                options=Options(builder, local_images=frozenset({f"docker.io/library/{base}"})),
                rebuild=True,
            )

    building = threading.Thread(target=run)
    building.start()
    process = sleeping()
    begun = time.perf_counter()
    cancelled.set()
    while process.exists():
        time.sleep(0.001)
    took = time.perf_counter() - begun
    building.join()
    return took


def sleeping() -> Path:
    """Return the folder in /proc of the process that sleeps, as soon as there is one."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cmdline").read_bytes() == b"sleep\0%d\0" % NAP:
                    return process
            except OSError:  # it has just ended
                continue
        time.sleep(0.01)
    raise RuntimeError("the step did not begin to sleep")


if __name__ == "__main__":
    main()
