"""Operations of every kind, brought to a boundary between two of their steps, where a fault strikes them.

One server has several apps. An operation of each is brought to its boundary and held there; then the fault strikes all
of them at once, and afterwards each app is examined. So a fault costs one restart for many boundaries, and the apps are
witnesses for each other.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from demo.person import Person
from demo.server import Server
from hooks.engine_room import EngineRoom
from store import operations
from store.data_folder import DataFolder
from store.database import Store
from tests.world.agreement import Examiner, Recorded
from tests.world.background import Background, eventually
from tests.world.gated_server import Boundary, Gates
from tests.world.kinds import App, Kind

TOGETHER = 4
"""Clients that are at work at once while a round is prepared."""

ALONE = {"hold", "introduce"}
"""Steps in which an operation is being opened: no other can be opened then, so at most one is held there."""


@dataclass
class Held:
    """An operation that stands at its boundary."""

    app: App
    kind: Kind
    boundary: Boundary
    before: Recorded
    clients: list[Background]

    def __str__(self) -> str:
        return f"{self.kind} of {self.app.name} at '{self.boundary}'"


class Field:
    """Apps on one server whose operations can be held, and what they are examined by."""

    def __init__(self, server: Server, gates: Gates, person: Person, base: str, engine: str) -> None:
        self.server = server
        self.examiner = Examiner(server.data, engine)
        self._gates = gates
        self._person = person
        self._base = base
        self._made = itertools.count(1)

    def app(self, *, deployed: bool) -> App:
        """Return a new app."""
        app = App(self._person, f"field-{next(self._made)}", self._base)
        if deployed:
            app.deploy()
        return app

    def app_for(self, kind: Kind, free: Iterator[App]) -> App:
        """Return an app that an operation of a kind can be asked of: one of its own, or the next free one."""
        return self.app(deployed=kind.deployed) if kind.fresh else next(free)

    def apps(self, count: int) -> list[App]:
        """Return as many new apps that run something."""
        with ThreadPoolExecutor(TOGETHER) as pool:
            return list(pool.map(lambda _: self.app(deployed=True), range(count)))

    def boundaries(self, app: App, kind: Kind) -> list[Boundary]:
        """Let an operation of a kind run without any fault, and return the boundaries that it came by."""
        self._gates.passed(app.name)
        held = self.bring(app, kind, None)
        self._gates.close(app.name)
        said = [client.end()[1] for client in held.clients]
        passed: list[Boundary] = []

        def over() -> bool:
            passed.extend(each for each in self._gates.passed(app.name) if each.type == kind.type)
            return Boundary(kind.type, "after", "let_go") in passed

        eventually(over, f"the operation '{kind}' has no end: {said}")
        return list(dict.fromkeys(passed[passed.index(kind.cancelled_at) + 1 :] if kind.cancelled_at else passed))

    def bring(self, app: App, kind: Kind, boundary: Boundary | None) -> Held:
        """Set off an operation, and return when it stands at its boundary; without one, it goes where it likes."""
        before = self.examiner.recorded(app.name)
        if before.release is not None and before.release.artifact.commit is None:
            app.deploy()  # operations of an app that runs an image have fewer steps
            before = self.examiner.recorded(app.name)
        clients = []
        target = [boundary] if boundary else []
        if kind.behind:
            self._gates.close(app.name, kind.behind, *target)
            clients.append(app.ask("restart --app {app}"))
            self._await(app, kind.behind)
            clients.append(kind.begin(app))
            clients[-1].wait_for("Waiting for operation") if boundary is None or boundary.step not in ALONE else None
        else:
            self._gates.close(app.name, *([kind.cancelled_at] if kind.cancelled_at else target))
            clients.append(kind.begin(app))
        if kind.cancelled_at:
            self._await(app, kind.cancelled_at)
        if kind.cancelled_at or (kind.behind and (boundary is None or boundary.step not in ALONE)):
            number = self.examiner.recorded(app.name).operations[0].id
            clients.append(Background(app.person, "ssh", "slipway", f"operation:cancel {number}"))
            if kind.cancelled_at:
                assert clients[-1].end()[0] == 0
                self._gates.close(app.name, *target)
        if boundary:
            self._await(app, boundary)
        return Held(app, kind, boundary or Boundary(kind.type, "after", "let_go"), before, clients)

    def _await(self, app: App, boundary: Boundary) -> None:
        eventually(lambda: self._gates.holds(app.name, boundary), f"no operation of {app.name} came to '{boundary}'")

    def round(self, wanted: Sequence[tuple[App, Kind, Boundary]], fault: Fault) -> list[str]:
        """Bring each app's operation to its boundary, let the fault strike, and return what does not agree then."""
        alone = [each for each in wanted if each[2].step in ALONE]
        assert len(alone) <= 1, "two operations cannot be opened at once"
        with ThreadPoolExecutor(TOGETHER) as pool:
            held = list(pool.map(lambda each: self.bring(*each), [each for each in wanted if each not in alone]))
        held += [self.bring(*each) for each in alone]
        fault.strike(self.server)
        for each in held:
            self._gates.close(each.app.name)
        for each in held:
            self._finish(each)
        if fault.heal:
            fault.heal(self.server)
        return [f"{each}: {sentence}" for each in held for sentence in self._examine(each, fault.seconds)]

    def _finish(self, held: Held) -> None:
        eventually(lambda: not self.examiner.busy(held.app.name), f"{held} is not over")
        for client in held.clients:
            client.end()

    def _examine(self, held: Held, seconds: float) -> list[str]:
        app, kind, before = held.app, held.kind, held.before
        sentences: list[str] = []

        def agrees() -> bool:
            exists = self.examiner.exists(app.name)
            sentences[:] = self.examiner.disagreements(app.name) if exists else self.examiner.traces(before.app)
            return not sentences

        try:
            eventually(agrees, "", seconds=seconds)
        except AssertionError:
            return sentences
        if not self.examiner.exists(app.name):
            return [] if kind.type == "deprovision" else ["the app is gone"]
        after = self.examiner.recorded(app.name)
        known = {each.id for each in before.operations}
        made = [each for each in after.operations if each.id not in known and each.type == kind.type]
        wanted = [each for each in made if each.status == "succeeded"]
        if held.clients[-1 if not kind.cancelled_at else 0].end()[0] == 0 and not made:
            return ["the client was told of a success, and there is no operation"]
        if wanted and not kind.changed(app, before, after):
            return ["it succeeded, and what it was to change has not changed"]
        if not wanted and (after.release, after.config, after.services) != (
            before.release,
            before.config,
            before.services,
        ):
            return ["it did not succeed, and something has changed"]
        if not wanted and not kind.behind and not kind.cancelled_at and held.clients[0].end()[0] == 0:
            return ["it did not succeed, and its client was told that it did"]
        return []


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a server, or with what it stands on."""

    strike: Callable[[Server], None]
    heal: Callable[[Server], None] | None = None
    """Ends the fault; None if it is over at once. Operations have to end by themselves before."""
    seconds: float = 20.0
    """How soon everything has to agree afterwards."""


def kill(server: Server) -> None:
    """End every process of a server as `kill -9` does, and serve again."""
    assert server.process
    processes = family(server.process.pid)
    server.kill()
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{each}").exists() for each in processes), "the server is not dead")
    server.start()


def kill_engine_room(server: Server) -> None:
    """End the engine room alone as `kill -9` does; the supervisor starts another."""
    assert server.process
    for process in family(server.process.pid):
        if Path(f"/proc/{process}/comm").read_text().strip() == "slipway-engine":
            os.kill(process, signal.SIGKILL)
            return
    raise AssertionError("there is no engine room")


def cancel_everything(server: Server) -> None:
    """Ask every operation that is not over to stop."""
    folder = DataFolder(server.data)
    store = Store.open(folder)
    with store.read() as connection:
        numbers = [each.id for each in operations.unfinished(connection)]
    store.close()
    for number in numbers:
        for _ in EngineRoom(folder.socket).command(None, ["operation:cancel", str(number)]):
            pass  # it may be over by now, which is no less well


def fill_disk(server: Server) -> None:
    """Use up all the space of a data folder's disk, which should be a small one."""
    with (server.data / "filler").open("ab", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(1 << 12))


def free_disk(server: Server) -> None:
    """Free the space again."""
    (server.data / "filler").unlink()


def family(process: int) -> list[int]:
    """Return a process and all that descends from it."""
    found = [process]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*"):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found
