"""How fast the HTTP interface answers fifty clients, and what that costs a push: `python -m bench.http_interface`.

Two ways of reading: each client as fast as it is answered (wrk, 50 connections), and as the command line does it, each
asking for its operation once a second. No Docker engine is needed: what is pushed is not deployed. Needs wrk.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from bench.endpoints import Slipway

CLIENTS = 50

PAUSE_SECONDS = 1.0
"""Before each push that is measured, with readers and without: what has just run runs faster once more."""

PASSWORD = "correct horse battery staple"

PATHS = ("/operations/1", "/apps/1", "/apps", "/accounts?per_page=5000&no_embed=true", "/stacks/1")
"""What commands read: the first one over and over."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.http_interface", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="per way of reading (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="pushes with and without readers (default %(default)s)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    server = Slipway(folder, "slipway")
    try:
        server.start()
        site = _Site(server)
        _flat_out(site, PATHS[0], 1, folder)  # the first thousand requests of a new process are slower
        print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}")
        print(f"\n| {CLIENTS} clients read | requests/s | median ms | p99 ms | max ms |\n|---|---|---|---|---|")
        for path in PATHS:
            print(f"| `{path}`, flat out | {_flat_out(site, path, options.seconds, folder)} |", flush=True)
        with _Polling(site) as polling:
            time.sleep(options.seconds)
        print(f"| `{PATHS[0]}`, once a second each | {polling.row()} |", flush=True)
        quiet, read = _pushes(server, site, folder, options.rounds)
        print(
            f"\nA push of one commit: {quiet:.0f} ms; while {CLIENTS} clients poll: {read:.0f} ms, "
            f"{(read / quiet - 1) * 100:+.0f} % (medians of {options.rounds})"
        )
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class _Site:
    """A server with an app and an operation, and a token for them."""

    def __init__(self, server: Slipway) -> None:
        self.api = server.api
        commands = [*server.ssh(), "users:password"], [*server.ssh(), "apps:create shop"], [*server.ssh(), _CONFIG]
        for words in commands:
            subprocess.run(words, input=PASSWORD, text=True, check=True, stdout=subprocess.DEVNULL)
        connection = http.client.HTTPConnection(self.api)
        body = json.dumps({"grant_type": "password", "username": "bench", "password": PASSWORD})
        connection.request("POST", "/tokens", body, {"Content-Type": "application/json"})
        self.token = json.loads(connection.getresponse().read())["access_token"]
        connection.close()


_CONFIG = "config:set --app shop A=1"


def _flat_out(site: _Site, path: str, seconds: int, folder: Path) -> str:
    words = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--latency", "-s", str(folder / "report.lua")]
    (folder / "report.lua").write_text(
        "done = function(summary, latency, requests)\n"
        '  io.write(string.format("row %.0f %.1f %.1f %.1f %d\\n", summary.requests / summary.duration * 1e6,\n'
        "    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,\n"
        "    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))\n"
        "end\n"
    )
    words += ["-H", f"Authorization: Bearer {site.token}", f"http://{site.api}{path}"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    row = re.search(r"^row (\S+) (\S+) (\S+) (\S+) (\d+)$", said, re.MULTILINE)
    if row is None or row[5] != "0":
        raise RuntimeError(f"some requests failed:\n{said}")
    return " | ".join(row.groups()[:4])


class _Polling:
    """Fifty clients that ask for an operation once a second, out of step, in a process of their own."""

    def __init__(self, site: _Site) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_poll, args=(site.api, site.token, there))

    def __enter__(self) -> _Polling:
        self._process.start()
        self._here.recv()  # every client has been answered once
        return self

    def __exit__(self, *_: object) -> None:
        self._here.send(None)
        self._took, self._seconds = self._here.recv()
        self._process.join()

    def row(self) -> str:
        """Return rate, median, p99 and maximum."""
        took = sorted(self._took)
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
        return " | ".join(
            [
                f"{len(took) / self._seconds:.0f}",
                *(f"{seconds * 1e3:.1f}" for seconds in (statistics.median(took), p99, took[-1])),
            ]
        )


def _poll(api: str, token: str, parent: Connection) -> None:
    """Poll until the parent says something; tell it how long each answer took, and how long it all did, in seconds."""
    took: list[float] = []
    begun, over = threading.Semaphore(0), threading.Event()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(api)
        over.wait(number / CLIENTS)
        while not over.is_set():
            began = time.perf_counter()
            connection.request("GET", PATHS[0], headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            took.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"an answer with status {answer.status}")
            begun.release()
            over.wait(1)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for _ in threads:
        begun.acquire()
    parent.send(None)
    parent.recv()
    over.set()
    for thread in threads:
        thread.join()
    parent.send((took, time.monotonic() - began))


def _pushes(server: Slipway, site: _Site, folder: Path, rounds: int) -> tuple[float, float]:
    """Return medians, in milliseconds, of a push without and with readers, measured in turn."""
    copy = folder / "copy"
    environment = server.environment()

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=copy, env=environment, check=True, capture_output=True)

    copy.mkdir()
    git("init", "-q")
    took: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + 1):
        for reading in (False, True) if number % 2 else (True, False):
            (copy / "file").write_text(f"{number} {reading}")
            git("add", "file")
            git("-c", "user.name=b", "-c", "user.email=b@example.com", "commit", "-qm", "x")
            if reading:
                with _Polling(site):
                    seconds = _push_after_a_pause(git)
            else:
                seconds = _push_after_a_pause(git)
            if number:  # the first one warms up
                took[reading].append(seconds * 1e3)
    return statistics.median(took[False]), statistics.median(took[True])


def _push_after_a_pause(git: Callable[..., None]) -> float:
    time.sleep(PAUSE_SECONDS)
    began = time.perf_counter()
    git("push", "-q", "-f", "ssh://git@127.0.0.1/shop.git", "HEAD:refs/heads/stored")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
