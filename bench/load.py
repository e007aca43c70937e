"""Many pushes at once, a fifth of them broken on purpose, and whether anything is lost, stuck or left over.

`python -m bench.load` pushes 1,000 times to 50 apps from 20 clients, kills the server five times meanwhile, and prints
a table. Every push has to have one truthful outcome: what its client was told, what the records say, and where the
branch points agree. The exit status is 1 if anything does not. Needs root, for an engine and a network of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import docker

from bench.leftovers import Leftovers
from demo.base_image import import_base_image
from demo.engine import private_engine
from demo.person import Person
from demo.server import Server
from tests.world.agreement import Examiner
from tests.world.faults import kill, kill_engine_room
from tests.world.network_namespace import enter_own
from tests.world.working_copy import Repo

BASE = "slipway-bench/base:1"

PYTHON_SERVER = 'CMD ["python3", "-m", "http.server", "-d", "/app", "8080"]'

BUSYBOX_SERVER = 'CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/app"]'

BROKEN = ("aborted", "bad pack", "failing build", "cancelled")

BROKEN_SHARE = 5
"""One push in so many is broken on purpose."""

DOUBLED_SHARE = 10
"""One in so many of the others is followed by a second push to the same app before it has ended."""

KILLS = 5

SETTLE_SECONDS = 60.0
"""How long the last operations, and then the routes, may take."""

_versions = itertools.count(1)


@dataclass
class Push:
    """One push, and what its client was told."""

    app: str
    kind: str
    commit: str = ""
    status: int | None = None
    said: str = ""

    @property
    def operation(self) -> int | None:
        """The number of the operation that the client was told of."""
        found = re.search(r"Operation (\d+): deploy", self.said)
        return int(found[1]) if found else None

    @property
    def outcome(self) -> str:
        """What the client was told: done, rejected, or that the connection was lost."""
        if self.status == 0:
            return "done"
        return "rejected" if "remote rejected" in self.said or "unpack failed" in self.said else "cut off"


@dataclass
class Copy:
    """An app and the working copy that is pushed to it from, one push after another."""

    repo: Repo
    base: str
    server: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    def commit(self, kind: str) -> str:
        """Commit the next version, on a branch of its own if it cannot be built."""
        version = next(_versions)
        command = "RUN false" if "python" in self.server else 'RUN ["/bin/busybox", "false"]'
        broken = f"{command}\n" if kind == "failing build" else ""
        if broken:
            self.repo.git_ok("checkout", "--quiet", "-B", "broken")
        commit = self.repo.commit(
            {
                "Dockerfile": f"FROM {self.base}\nEXPOSE 8080\n{self.server}\nCOPY . /app\n{broken}",
                "version": str(version),
                "index.html": f'{{"version": "{version}", "environment": {{}}}}',
            }
        )
        if broken:
            self.repo.git_ok("checkout", "--quiet", "master")
        return commit

    def start(self, push: Push) -> subprocess.Popen[str]:
        """Begin a push."""
        return subprocess.Popen(
            ["git", "push", "aptible", f"{push.commit}:refs/heads/master"],
            cwd=self.repo.folder,
            env=dict(self.repo.person.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


class Load:
    """The pushes of one run."""

    def __init__(self, copies: list[Copy], total: int, seed: int) -> None:
        self._copies = copies
        self._random = random.Random(seed)
        self.total = total
        self.pushes: list[Push] = []
        self.serving = threading.Event()
        """Whether there is a server to connect to. Whoever is connected when it is killed does not ask."""
        self.serving.set()
        self._lock = threading.Lock()
        self._left = self._kinds()

    def _kinds(self) -> list[str]:
        broken = [BROKEN[number % len(BROKEN)] for number in range(self.total // BROKEN_SHARE)]
        kinds = broken + ["whole"] * (self.total - len(broken))
        self._random.shuffle(kinds)
        return kinds

    @property
    def done(self) -> int:
        """How many pushes have ended."""
        return sum(push.status is not None for push in list(self.pushes))

    def work(self) -> None:
        """Push what is left to push, as one client."""
        while (taken := self._take()) is not None:
            copy, pushes, patience = taken
            with copy.lock:
                self.serving.wait()
                if pushes[0].kind == "bad pack":
                    _send_bad_pack(copy, pushes[0])
                else:
                    self._push(copy, pushes, patience)

    def _take(self) -> tuple[Copy, list[Push], float] | None:
        with self._lock:
            if not self._left:
                return None
            copy = self._random.choice([each for each in self._copies if not each.lock.locked()] or self._copies)
            kinds = [self._left.pop()]
            if kinds == ["whole"] and self._left[-1:] == ["whole"] and self._random.randrange(DOUBLED_SHARE) == 0:
                kinds.append(self._left.pop())
            pushes = [Push(copy.repo.app, kind) for kind in kinds]
            self.pushes += pushes
            return copy, pushes, self._random.uniform(0.02, 3)

    def _push(self, copy: Copy, pushes: list[Push], patience: float) -> None:
        running = []
        for push in pushes:
            push.commit = copy.commit(push.kind)
            running.append(copy.start(push))
        for push, process in zip(pushes, running, strict=True):
            if push.kind == "aborted":
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, 9)
            if push.kind == "cancelled":
                assert process.stdout
                for line in process.stdout:
                    push.said += line
                    if push.operation is not None:
                        copy.repo.person.ssh("operation:cancel", str(push.operation))
                        break
            rest, _ = process.communicate()
            push.said += rest
            push.status = process.returncode


def _send_bad_pack(copy: Copy, push: Push) -> None:
    """Send a sound request with a pack whose checksum is right and whose content is none."""
    push.commit = hashlib.sha1(push.app.encode()).hexdigest()
    line = f"{'0' * 40} {push.commit} refs/heads/broken\0report-status side-band-64k\n".encode()
    pack = b"PACK" + struct.pack(">II", 2, 3) + os.urandom(300)
    request = b"%04x" % (len(line) + 4) + line + b"0000" + pack + hashlib.sha1(pack).digest()
    done = subprocess.run(
        ["ssh", "slipway", f"git-receive-pack '{push.app}.git'"],
        env=dict(copy.repo.person.environment), input=request, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    # The exit status of git-receive-pack is 0 where it has reported; a client makes its own of the report.
    push.said = (done.stdout + done.stderr).decode(errors="replace")
    push.said = push.said.replace("unpack index-pack", "unpack failed: index-pack")
    push.status = 1
    if re.search(r"unpack (?!ok)", push.said):
        push.said += " unpack failed"


def untruths(pushes: list[Push], examiner: Examiner) -> Iterator[str]:
    """Yield a sentence for each push whose client was told otherwise than the records, or the branch, say."""
    recorded = {name: examiner.recorded(name) for name in {push.app for push in pushes}}
    for push in pushes:
        app = recorded[push.app]
        what = f"{push.kind} push to {push.app}, operation {push.operation}"
        record = next((each for each in app.operations if each.id == push.operation), None)
        if push.operation is None:
            if push.outcome == "done":
                yield f"{what}: it is said to be done, and there is no operation: {push.said[-300:]}"
        elif record is None:
            yield f"{what}: it is not in the records"
        elif push.outcome == "done" and record.status != "succeeded":
            yield f"{what}: its client was told that it is done, and it has {record.status}"
        elif push.outcome == "rejected" and record.status not in ("failed", "cancelled"):
            yield f"{what}: its client was told that it is rejected, and it has {record.status}: {push.said[-300:]}"
        elif push.outcome == "rejected" and (record.error or "")[:40] not in " ".join(push.said.split()):
            yield f"{what}: its client was not told {record.error!r}: {push.said[-300:]}"
        elif record.status == "succeeded" and examiner.git(
            app.app, "merge-base", "--is-ancestor", push.commit, "refs/heads/master"
        ):
            yield f"{what}: it has succeeded, and master does not have its commit"
        if push.kind == "failing build" and record is not None and record.status == "succeeded":
            yield f"{what}: a build that fails has succeeded"


def _import_busybox(engine: str, program: str) -> None:
    with tempfile.TemporaryDirectory() as folder, docker.APIClient(engine) as client:
        target = Path(folder) / "bin" / "busybox"
        target.parent.mkdir()
        shutil.copy(program, target)
        archive = Path(folder) / "root.tar"
        subprocess.run(["tar", "-C", folder, "-cf", archive, "bin"], check=True)
        repository, _, tag = BASE.rpartition(":")
        client.import_image(src=str(archive), repository=repository, tag=tag)


def _base(engine: str) -> str:
    """Make the base image, of busybox where that is linked statically, else of Python; return what it serves with."""
    program = shutil.which("busybox")
    if program and b"statically" in subprocess.run(["file", program], capture_output=True, check=False).stdout:
        _import_busybox(engine, program)
        return BUSYBOX_SERVER
    import_base_image(engine, BASE)
    return PYTHON_SERVER


def _settle(examiner: Examiner, names: list[str]) -> dict[str, list[str]]:
    """Wait for what is still under way; return what does not agree, by app."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while any(examiner.busy(name) for name in names) and time.monotonic() < deadline:
        time.sleep(0.2)
    wrong = {name: examiner.disagreements(name) for name in names}
    while any(wrong.values()) and time.monotonic() < deadline:
        time.sleep(1)
        wrong |= {name: examiner.disagreements(name) for name, found in wrong.items() if found}
    return {name: found for name, found in wrong.items() if found}


def main() -> int:
    """Run the load and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=1000)
    parser.add_argument("--apps", type=int, default=50)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="keep the server's log in this file")
    chosen = parser.parse_args()
    if not enter_own():
        raise SystemExit("a network and an engine of one's own need root")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-load-")))
        engine = stack.enter_context(private_engine(folder / "engine"))
        serve_with = _base(engine)
        server = stack.enter_context(_serving(folder, engine))
        if chosen.log:
            stack.callback(shutil.copy, server.log, chosen.log)
        clients = [Person(folder / f"client-{number}", f"client-{number}") for number in range(chosen.clients)]
        for client in clients:
            server.add_user(client)
        examiner = Examiner(server.data, engine)
        stack.callback(examiner.close)
        with ThreadPoolExecutor(chosen.clients) as pool:
            made = [pool.submit(_app, n, clients[n % len(clients)], serve_with) for n in range(chosen.apps)]
            copies = [each.result() for each in made]
        wrong = _settle(examiner, [copy.repo.app for copy in copies])
        leftovers = Leftovers(server, engine, folder / "tmp")
        load = Load(copies, chosen.pushes, chosen.seed)
        seconds = _run(load, server, chosen.clients, chosen.kills)
        wrong |= _settle(examiner, [copy.repo.app for copy in copies])
        lies = list(untruths(load.pushes, examiner))
        left = leftovers.compare(chosen.apps)
    print(
        f"\n{chosen.pushes} pushes to {chosen.apps} apps by {chosen.clients} clients at once took {seconds:.0f} s; the "
        f"server was killed and started again {chosen.kills} times meanwhile.\n"
    )
    print(*_table(load.pushes, len(lies), len(wrong)), *left.lines, sep="\n")
    print(*lies, *(f"{name}: {sentence}" for name, found in wrong.items() for sentence in found), *left.wrong, sep="\n")
    return 1 if lies or wrong or left.wrong else 0


@contextmanager
def _serving(folder: Path, engine: str) -> Iterator[Server]:
    (folder / "tmp").mkdir()
    settings = {"SLIPWAY_LOCAL_IMAGES": BASE, "TMPDIR": str(folder / "tmp")}
    server = Server(folder / "data", engine, settings)
    server.init(Person(folder / "admin", "admin"))
    try:
        server.start()
        yield server
    finally:
        server.down()


def _run(load: Load, server: Server, clients: int, kills: int) -> float:
    """Let all clients push, and kill the server now and then; return how many seconds it took."""
    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        workers = [pool.submit(load.work) for _ in range(clients)]
        # In this thread: the kernel ends a server with the thread that has started it (demo.process).
        for number in range(kills):
            while load.done < load.total * (number + 1) / (kills + 1) and not all(each.done() for each in workers):
                time.sleep(0.02)
            load.serving.clear()
            (kill_engine_room if number % 2 else kill)(server)
            load.serving.set()
        for worker in workers:
            worker.result()
    return time.monotonic() - started


def _table(pushes: list[Push], lies: int, wrong: int) -> Iterator[str]:
    outcomes = Counter((push.kind, push.outcome) for push in pushes)
    yield "| push | done | rejected with the reason | connection lost |\n|---|---|---|---|"
    for kind in ("whole", *BROKEN):
        counts = " | ".join(str(outcomes[kind, each]) for each in ("done", "rejected", "cut off"))
        yield f"| {kind} | {counts} |"
    yield "\n| promise | broken |\n|---|---|"
    yield f"| client, record and branch tell the same of each push | {lies} |"
    yield f"| records, branches, `git fsck --strict`, containers, routes, images, logs agree for each app | {wrong} |"


def _app(number: int, owner: Person, serve_with: str) -> Copy:
    name = f"load-{number}"
    assert owner.ssh("apps:create", name).returncode == 0
    copy = Copy(Repo(owner, name), BASE, serve_with)
    first = copy.start(Push(name, "whole", copy.commit("whole")))
    said, _ = first.communicate()
    assert first.returncode == 0, said
    return copy


if __name__ == "__main__":
    sys.exit(main())
