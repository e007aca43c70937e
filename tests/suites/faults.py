"""Every boundary of every kind of operation, struck by a fault: `python -m tests.suites.faults`.

Which boundaries there are is found out by running each kind once. Prints a line for each round, and what did not agree
afterwards; the exit status is 1 if anything did not. Needs root, for an engine of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from queue import Queue

import docker

from demo.base_image import import_base_image
from demo.engine import private_dockerd
from demo.person import Person
from demo.server import Server
from tests.stories import web_app
from tests.world import gated_server
from tests.world.faults import (
    ALONE,
    TOGETHER,
    Fault,
    Field,
    cancel_everything,
    fill_disk,
    free_disk,
    kill,
    kill_engine_room,
)
from tests.world.gated_server import Boundary, Gates
from tests.world.kinds import App, Kind, kinds
from tests.world.network_namespace import enter_own

BASE = "slipway-test/base:python"
IMAGE = "slipway-test/ready:1"

FAULTS = {
    "kill": Fault(kill),
    "engine-room": Fault(kill_engine_room),
    "disk": Fault(fill_disk, free_disk),
    "cancel": Fault(cancel_everything),
}
"""By the names under which they can be asked for; beside these there is `engine`, the death of the engine."""

DISK_MB = 64
"""Of the disk that the data folder is on: room for everything, and soon full."""

Plan = list[tuple[Kind, Boundary]]


def ready_image(engine: str, base: str, folder: Path) -> str:
    """Make an image that can be deployed as it is, and return its name."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f'FROM {base}\nWORKDIR /app\nEXPOSE 8080\nCMD ["python3", "-u", "server.py"]\nCOPY . .\n'
    )
    (folder / "server.py").write_text(web_app.SERVER)
    (folder / "version").write_text("image")
    with docker.APIClient(engine) as client:
        for message in client.build(path=str(folder), tag=IMAGE, rm=True, decode=True):
            assert "error" not in message, message
    return IMAGE


@contextmanager
def field(folder: Path, engine: str, base: str, image: str) -> Iterator[Field]:
    """Serve with gates, and yield a field on that server."""
    gates = folder / "gates"
    gates.mkdir(parents=True)
    settings = {"SLIPWAY_LOCAL_IMAGES": f"{base},{image}", "SLIPWAY_OPERATIONS": "64", "SLIPWAY_FRONT_DOORS": "1"}
    data = folder / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "tmpfs", data], check=True)
    server = Server(data, engine, settings, gated_server.words(gates))
    server.init(Person(folder / "admin", "admin"))
    try:
        server.start()
        carol = Person(folder / "carol", "carol")
        server.add_user(carol)
        opened = Field(server, Gates(gates), carol, base, engine)
        with closing(opened.examiner):
            yield opened
    finally:
        server.down()
        subprocess.run(["umount", data], check=True)


def discover(ground: Field, apps: list[App], image: str) -> dict[Kind, list[Boundary]]:
    """Return the boundaries of every kind, in their order."""
    free: Queue[App] = Queue()
    for each in apps:
        free.put(each)

    def of(kind: Kind) -> list[Boundary]:
        app = ground.app(deployed=kind.deployed) if kind.fresh else free.get()
        try:
            return ground.boundaries(app, kind)
        finally:
            if not kind.fresh:
                free.put(app)

    every = kinds(image)
    with ThreadPoolExecutor(min(TOGETHER, len(apps))) as pool:
        return dict(zip(every, pool.map(of, every), strict=True))


def once(found: dict[Kind, list[Boundary]]) -> Plan:
    """Choose boundaries so that every step is struck before it begins, and every kind, at least once."""
    chosen: Plan = []
    steps = list(dict.fromkeys(each.step for boundaries in found.values() for each in boundaries))
    struck: Counter[Kind] = Counter()
    for step in steps:
        having = [
            (kind, each)
            for kind, boundaries in found.items()
            for each in boundaries
            if (each.side, each.step) == ("before", step)
        ]
        kind, boundary = min(having, key=lambda pair: struck[pair[0]])
        struck[kind] += 1
        chosen.append((kind, boundary))
    return chosen + [(kind, boundaries[-1]) for kind, boundaries in found.items() if not struck[kind]]


def rounds(plan: Plan, size: int) -> Iterator[Plan]:
    """Deal boundaries into rounds, in each of which at most one operation is held while it is opened."""
    alone = [each for each in plan if each[1].step in ALONE]
    others = [each for each in plan if each[1].step not in ALONE]
    while alone or others:
        yield [*alone[:1], *others[: size - len(alone[:1])]]
        others = others[size - len(alone[:1]) :]
        alone = alone[1:]


def play(ground: Field, apps: list[App], plan: Plan, fault: Fault) -> list[str]:
    """Play one round, and return what does not agree."""
    free = iter(apps)
    wanted = [(ground.app_for(kind, free), kind, boundary) for kind, boundary in plan]
    return ground.round(wanted, fault)


def main() -> int:
    """Run the whole matrix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", choices=[*FAULTS, "engine"], action="append", help="all by default")
    parser.add_argument("--apps", type=int, default=12, help="operations that are struck at once")
    parser.add_argument("--kind", help="one kind only")
    parser.add_argument("--after", action="store_true", help="also strike after steps, not only before the next ones")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="begin with this round of each fault")
    parser.add_argument("--last", type=int, default=1000, metavar="N", help="end after this round of each fault")
    chosen = parser.parse_args()
    if not enter_own():
        raise SystemExit("a network and an engine of one's own need root")
    wrong: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-faults-")))
        dockerd = stack.enter_context(private_dockerd(folder / "engine"))
        engine = dockerd.url
        # What an operation could not remove while there was no engine is looked for each minute.
        death = Fault(lambda server: dockerd.kill(), lambda server: dockerd.start(), seconds=90.0)
        faults = FAULTS | {"engine": death}
        import_base_image(engine, BASE)
        image = ready_image(engine, BASE, folder / "image")
        ground = stack.enter_context(field(folder / "server", engine, BASE, image))
        apps = ground.apps(chosen.apps)
        found = discover(ground, apps, image)
        for kind, boundaries in found.items():
            names = ", ".join(f"{boundary.side} {boundary.step}" for boundary in boundaries)
            print(f"{kind}: {len(boundaries)} boundaries: {names}", flush=True)
        plan = [
            (kind, boundary)
            for kind, boundaries in found.items()
            if chosen.kind in (None, kind.name)
            for boundary in boundaries
            if chosen.after or boundary.side == "before" or boundary is boundaries[-1]
        ]
        struck = 0
        for fault in chosen.fault or faults:
            for number, part in enumerate(rounds(plan, chosen.apps), 1):
                if not chosen.first <= number <= chosen.last:
                    continue
                started = time.monotonic()
                struck += len(part)
                sentences = play(ground, apps, part, faults[fault])
                print(
                    f"{fault}, round {number}: {len(part)} boundaries in {time.monotonic() - started:.0f} s, "
                    f"{len(sentences)} disagreements",
                    *sentences,
                    sep="\n  ",
                    flush=True,
                )
                wrong += sentences
        print(f"{struck} of {len(plan) * len(chosen.fault or faults)} boundaries struck, {len(wrong)} disagreements")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
