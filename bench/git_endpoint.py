"""This server's Git endpoint beside OpenSSH with git, the same work in turn: `python -m bench.git_endpoint`.

Prints a table in Markdown: what each endpoint took, ours as a ratio to the others, and the ratio to reach. Absolute
times say little about another machine, or about this one in another hour; the ratios come from one run.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.cases import CASES, Case, Work
from bench.endpoints import TUNED, Endpoint, Local, OpenSsh, Slipway
from bench.memory import measure as measure_memory

ROUNDS = 7
"""Fewest rounds for a figure that is kept."""


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.git_endpoint", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds per case and endpoint (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds with a tenth of the data: a look, no figure")
    parser.add_argument("--only", action="append", choices=[*(case.name for case in CASES), "memory"], default=[])
    parser.add_argument("--history", type=Path, help="a bare repository to push in place of the large made-up one")
    parser.add_argument("--work", type=Path, help="keep the histories here for the next run")
    options = parser.parse_args()
    # As with Ctrl-C, the servers that were started are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    work = Work(options.work or folder / "work", 3 if options.quick else options.rounds, quick=options.quick)
    work.folder.mkdir(parents=True, exist_ok=True)
    if options.history:
        work.history = options.history.absolute()
    wanted = options.only or [*(case.name for case in CASES), "memory"]
    try:
        with ExitStack() as stack:
            endpoints = start(folder, stack)
            print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}; medians")
            print("\n| case | rounds | path | OpenSSH | tuned | ours | ours / OpenSSH | ours / tuned |")
            print("|---|---|---|---|---|---|---|---|", flush=True)
            for case in CASES:
                if case.name in wanted:
                    print(row(case(work), endpoints), flush=True)
            if "memory" in wanted:
                print(measure_memory(work, next(each for each in endpoints if isinstance(each, Slipway))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path, stack: ExitStack) -> list[Endpoint]:
    """Start all endpoints, to be stopped with `stack`."""
    servers: list[Slipway | OpenSsh] = [
        OpenSsh(folder / "openssh", "OpenSSH"),
        OpenSsh(folder / "tuned", "tuned", lines=TUNED),
        Slipway(folder / "ours", "ours"),
    ]
    for server in servers:
        stack.callback(server.stop)
        server.start()
    return [Local(folder / "path"), *servers]


def row(case: Case, endpoints: Sequence[Endpoint]) -> str:
    """Run a case, and return its line of the table."""
    taking_part = [endpoint for endpoint in endpoints if case.local or not isinstance(endpoint, Local)]
    for endpoint in taking_part:
        case.prepare(endpoint)
    times: dict[str, list[float]] = {endpoint.name: [] for endpoint in taking_part}
    rounds = 0
    try:
        for number in range(1 - case.warm_up, case.work.rounds + 1):
            # Each begins a round in its turn.
            shift = number % len(taking_part)
            seconds = {each.name: case.measure(each) for each in [*taking_part[shift:], *taking_part[:shift]]}
            if number > 0:
                rounds = number
                for name, figures in seconds.items():
                    times[name] += figures
            print(f"  {case.name} {max(number, 0)}/{case.work.rounds}", end="\r", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        # What whole rounds have shown is not thrown away.
        if not rounds:
            raise
    result = {name: quantile(all_times, case.quantile) for name, all_times in times.items()}
    cells = [case.title, str(rounds), *(_shown(result.get(name)) for name in ("path", "OpenSSH", "tuned", "ours"))]
    for name, target in zip(("OpenSSH", "tuned"), case.targets, strict=True):
        ratio = result["ours"] / result[name]
        cells.append(f"{ratio:.2f} ({'reached' if ratio <= target else 'to reach'} {target:.2f})")
    return f"| {' | '.join(cells)} |"


def quantile(times: Sequence[float], q: float) -> float:
    """Return the smallest of `times` that at least a share `q` of them do not exceed."""
    return sorted(times)[max(0, math.ceil(q * len(times)) - 1)]


def _shown(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


if __name__ == "__main__":
    main()
