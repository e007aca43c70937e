"""What a server and its engine hold before and after a load: memory, descriptors, threads, containers, files."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker

from bench.memory import pss
from demo.server import Server
from store.data_folder import DataFolder
from tests.world.faults import family

GROWTH_MB = 20.0
"""How much more memory the server may hold in the end."""

QUIET_SECONDS = 75.0
"""How long what is left may take to be gone: connections and threads some seconds, images without a name a minute."""


@dataclass(frozen=True)
class Held:
    """What is held at one moment."""

    memory_mb: float
    descriptors: int
    """Without those of the records: as many connections stay open as were needed at once, up to a bound."""
    threads: int
    processes: int
    containers: int
    dangling: int
    """Images without a name."""
    temporary: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two moments beside each other."""

    lines: list[str]
    """Rows of a table."""
    wrong: list[str]
    """A sentence for each thing that is left over."""


class Leftovers:
    """Looks at a server, its engine, and its folder for temporary files."""

    def __init__(self, server: Server, engine: str, temporary: Path) -> None:
        self._server = server
        self._engine = engine
        self._temporary = temporary
        self._before = self._look()

    def look(self) -> None:
        """Take this moment for the one before the load."""
        self._before = self._look()

    def compare(self, apps: int) -> Comparison:
        """Return what has changed, as soon as nothing seems to be left, or else after a while."""
        deadline = time.monotonic() + QUIET_SECONDS
        while True:
            after = self._look()
            wrong = list(self._wrong(after, apps))
            if not wrong or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        collected = self._server.administer("gc", "--json")
        removed = len(json.loads(collected))
        before = self._before
        rows = [
            ("memory of the whole server, MB (PSS)", f"{before.memory_mb:.0f}", f"{after.memory_mb:.0f}"),
            ("descriptors", before.descriptors, after.descriptors),
            ("threads", before.threads, after.threads),
            ("processes", before.processes, after.processes),
            ("containers", before.containers, after.containers),
            ("images without a name", before.dangling, after.dangling),
            ("temporary files and folders", len(before.temporary), len(after.temporary)),
        ]
        lines = ["\n| held | before | after |", "|---|---|---|", *(f"| {name} | {a} | {b} |" for name, a, b in rows)]
        lines.append(f"\n`gc` removes {removed} images of releases that are older than the ten newest, or never were.")
        return Comparison(lines, wrong)

    def _wrong(self, after: Held, apps: int) -> list[str]:
        before = self._before
        return [
            sentence
            for found, sentence in (
                (after.memory_mb - before.memory_mb > GROWTH_MB, f"memory grew to {after.memory_mb:.0f} MB"),
                (after.descriptors > before.descriptors, f"{after.descriptors} descriptors"),
                (after.threads > before.threads, f"{after.threads} threads"),
                (after.processes > before.processes, f"{after.processes} processes"),
                (after.containers != apps, f"{after.containers} containers of {apps} apps"),
                (after.dangling > before.dangling, f"{after.dangling} images without a name"),
                (bool(after.temporary), f"temporary files: {after.temporary}"),
            )
            if found
        ]

    def _look(self) -> Held:
        assert self._server.process
        processes = family(self._server.process.pid)
        records = str(DataFolder(self._server.data).database)
        descriptors = threads = 0
        for process in processes:
            with suppress(OSError):
                descriptors += sum(not _leads_to(each, records) for each in Path(f"/proc/{process}/fd").iterdir())
                threads += len(list(Path(f"/proc/{process}/task").iterdir()))
        with docker.APIClient(self._engine) as client:
            containers = len(client.containers(all=True))
            dangling = len(client.images(filters={"dangling": True}))
        temporary = tuple(sorted(path.name for path in self._temporary.iterdir()))
        memory = pss(self._server.process.pid)[1]
        return Held(memory, descriptors, threads, len(processes), containers, dangling, temporary)


def _leads_to(descriptor: Path, file: str) -> bool:
    """Tell whether a descriptor, named in /proc, is of a database's file, its write-ahead log or the index of that."""
    # It may be closed by now.
    with suppress(OSError):
        return str(descriptor.readlink()).startswith(file)
    return False
