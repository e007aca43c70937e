"""What becomes of the Git endpoint's times as one thing grows: `python -m bench.growth`.

Refs of a repository, objects of a first push, connections at once, pushes that a repository has had. Prints the medians
and how steep each curve is at most, and draws it, with OpenSSH (as Debian configures it) and git beside, into a folder.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import histories
from bench.cases import Work, add_refs, push, timed
from bench.curves import steepness, svg
from bench.endpoints import OpenSsh, Slipway, git_environment
from bench.many_pushes import many_pushes

ROUNDS = 5
"""Measurements per point; the curve is their medians."""

Server = Slipway | OpenSsh


@dataclass
class Growth:
    """One thing that grows. `values` are its sizes; `measure` returns the seconds at one of them."""

    work: Work
    title: str
    across: str
    values: Sequence[int]
    measure: Callable[[Growth, Server, int], list[float]]
    theirs: int
    """The largest size at which OpenSSH is measured as well: it is there to compare with, and takes its time."""
    pushed: dict[str, int] = field(default_factory=dict)
    grown: dict[str, tuple[Path, int]] = field(default_factory=dict)

    def small_push(self, server: Server, repository: Path) -> float:
        """Push one more commit of the small project, and return the seconds."""
        number = self.pushed.get(str(repository), 0) + 1
        self.pushed[str(repository)] = number
        words = push(self.work.small, server.url(repository), self.work.small_commits[number])
        return timed(words, server.environment())

    def begin(self, server: Server, name: str) -> Path:
        """Make a repository with the small project's first commit."""
        repository = server.repository(name)
        source = self.work.small
        subprocess.run(push(source, str(repository), self.work.small_commits[0]), check=True, env=git_environment())
        return repository


def with_refs(growth: Growth, server: Server, count: int) -> list[float]:
    """Push one commit to a repository with so many refs."""
    repository = growth.begin(server, f"refs-{count}")
    add_refs(repository, growth.work.small_commits[0], count)
    return [growth.small_push(server, repository) for _ in range(growth.work.rounds + 1)][1:]


def history(work: Work, count: int) -> Path:
    """Return a history of so many objects."""
    return work.made(f"large-{count}", lambda draft: histories.large(draft, count))


def with_objects(growth: Growth, server: Server, count: int) -> list[float]:
    """Push a history of so many objects to an empty repository; once where that takes long."""
    source = history(growth.work, count)
    times = []
    for number in range(growth.work.rounds if count <= 10_000 else 1):
        repository = server.repository(f"objects-{count}-{number}")
        times.append(timed(push(source, server.url(repository), "main"), server.environment()))
        shutil.rmtree(repository / "objects")
    return times


def with_connections(growth: Growth, server: Server, count: int) -> list[float]:
    """Run a trivial command on so many cold connections at once; return what the whole of them took."""
    times = []
    # Batches, for the server takes a hundred connections of one address, and OpenSSH as many that log in.
    for _ in range(growth.work.rounds):
        begun = time.perf_counter()
        processes: list[subprocess.Popen[bytes]] = []
        for _ in range(count):
            while sum(process.poll() is None for process in processes) >= 90:
                time.sleep(0.005)
            processes.append(subprocess.Popen([*server.ssh(), "whoami"], stdout=subprocess.DEVNULL))
        if any(process.wait() for process in processes):
            raise RuntimeError(f"a connection to {server.name} failed")
        times.append(time.perf_counter() - begun)
    return times


def after_pushes(growth: Growth, server: Server, count: int) -> list[float]:
    """Push one commit to a repository that has had so many pushes, all of them over SSH."""
    if server.name not in growth.grown:
        growth.grown[server.name] = (growth.begin(server, "pushes"), 0)
    repository, had = growth.grown[server.name]
    many_pushes(server, repository, had, count)
    growth.grown[server.name] = (repository, count)
    return [growth.small_push(server, repository) for _ in range(growth.work.rounds + 1)][1:]


KINDS: dict[str, tuple[str, str, Sequence[int], Callable[[Growth, Server, int], list[float]], int]] = {
    "refs": ("Push of one commit", "refs in the repository", (10, 100, 1_000, 10_000, 50_000), with_refs, 50_000),
    "objects": ("First push", "objects", (10, 100, 1_000, 10_000, 100_000, 500_000), with_objects, 100_000),
    "connections": ("A trivial command on each connection", "at once", (1, 10, 50, 100, 200), with_connections, 100),
    "pushes": ("Push of one commit", "pushes before it", (0, 10, 100, 500, 1_000, 2_000, 5_000), after_pushes, 500),
}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--only", action="append", choices=KINDS, default=[])
    parser.add_argument("--most", type=int, help="leave larger sizes out: a look, no figure")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="measurements per point (default %(default)s)")
    parser.add_argument("--work", type=Path, help="keep the histories here for the next run")
    parser.add_argument("--prepare", action="store_true", help="only make the histories, so that a run measures alone")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write growth-….svg there")
    options = parser.parse_args()
    if options.prepare and not options.work:
        parser.error("--prepare takes --work, where the histories stay")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    work = Work(options.work or folder / "work", options.rounds)
    work.folder.mkdir(parents=True, exist_ok=True)
    try:
        if options.prepare:
            _prepare(work, options.only or KINDS, options.most)
            return
        with ExitStack() as stack:
            servers: list[Server] = [
                Slipway(folder / "ours", "slipway"),
                OpenSsh(folder / "openssh", "OpenSSH"),
            ]
            for server in servers:
                stack.callback(server.stop)
                server.start()
            for name in options.only or KINDS:
                title, across, values, measure, theirs = KINDS[name]
                wanted = [value for value in values if value <= (options.most or value)]
                curves = _measured(Growth(work, title, across, wanted, measure, theirs), servers)
                if options.draw:
                    (options.draw / f"growth-{name}.svg").write_text(svg(title, across, "seconds", curves))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(work: Work, names: Iterable[str], most: int | None) -> None:
    """Make what is pushed, which takes far longer than pushing it."""
    _ = work.small
    if "objects" in names:
        for value in KINDS["objects"][2]:
            if value <= (most or value):
                history(work, value)


def _measured(growth: Growth, servers: Sequence[Server]) -> dict[str, list[tuple[float, float]]]:
    """Measure all sizes, print them as a table in Markdown, and return the curves."""
    curves: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    print(f"\n| {growth.title}: {growth.across} | {' | '.join(curves)} |\n|---|{'---|' * len(servers)}", flush=True)
    for value in growth.values:
        shown = []
        for server in servers:
            if isinstance(server, OpenSsh) and value > growth.theirs:
                shown.append("-")
                continue
            seconds = statistics.median(growth.measure(growth, server, value))
            curves[server.name].append((value, seconds))
            shown.append(f"{seconds:.3f} s")
        print(f"| {value:,} | {' | '.join(shown)} |", flush=True)
    if len(growth.values) > 1:
        print(f"| steepest (1 is linear) | {' | '.join(f'{steepness(points):.2f}' for points in curves.values())} |")
    return curves


if __name__ == "__main__":
    main()
