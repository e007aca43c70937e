"""What the endpoints are given to do, one class per case.

`prepare` brings an endpoint to where the case begins; `measure` does the work once and returns seconds, several where
one round holds many pushes. Rounds of all endpoints take turns, so that whatever else the machine does meets them all.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench import histories
from bench.endpoints import Endpoint, OpenSsh, Slipway, git_environment
from bench.many_pushes import many_pushes
from bench.relay import Relay

BRANCH = "refs/heads/stored"
"""Where everything is pushed to: a branch that does not deploy, since it is the endpoint that is measured."""


@dataclass
class Work:
    """The client's side: a folder with the histories, each made when it is first asked for."""

    folder: Path
    rounds: int
    quick: bool = False
    history: Path | None = None
    """A repository of the user's own, whose `main` stands for the large history."""
    small_commits: list[str] = field(default_factory=list)

    @property
    def small(self) -> Path:
        """A small project with a commit for every push."""
        path = self.made("small", lambda draft: histories.small(draft, 4_000))
        self.small_commits = self.small_commits or histories.commits(path)
        return path

    @property
    def large(self) -> Path:
        """A history of 100,000 objects, or 10,000 where quick is asked for."""
        if self.history is not None:
            return self.history
        objects = 10_000 if self.quick else 100_000
        return self.made(f"large-{objects}", lambda draft: histories.large(draft, objects))

    def blob(self, mebibytes: int) -> Path:
        """One incompressible file."""
        size = mebibytes // 10 if self.quick else mebibytes
        return self.made(f"blob-{size}", lambda draft: histories.blob(draft, size << 20))

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a repository that is made once, by `make` in the folder that it is given."""
        path = self.folder / name
        if not path.exists():
            # An earlier run may have been broken off in the middle of making it.
            draft = self.folder / f"{name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            make(draft)
            draft.rename(path)
        return path


WARM_UP = 20
"""Rounds of a short case that do not count. A server that has just been started is not what people push to, and each of
its processes takes some connections until it runs as it does ever after; OpenSSH's are new each time."""


@dataclass
class Case:
    """One row of the table. The targets are ratios, ours to each of the others."""

    work: Work
    name: ClassVar[str]
    title: ClassVar[str]
    targets: ClassVar[tuple[float, float]]
    quantile: ClassVar[float] = 0.5
    local: ClassVar[bool] = True
    warm_up: ClassVar[int] = 1
    """Rounds that do not count: they warm every cache."""
    _repositories: dict[str, Path] = field(default_factory=dict)
    _pushed: dict[str, int] = field(default_factory=dict)

    def prepare(self, endpoint: Endpoint) -> None:
        """Bring the endpoint to where the case begins."""

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Do the work once."""
        raise NotImplementedError

    def _push_next(self, endpoint: Endpoint, repository: Path) -> list[str]:
        """Return the words that push one more commit to a repository, which has had all before it."""
        number = self._pushed.get(str(repository), 0) + 1
        self._pushed[str(repository)] = number
        return push(self.work.small, endpoint.url(repository), self.work.small_commits[number])

    def _begin(self, endpoint: Endpoint, name: str) -> Path:
        """Make a repository that holds the small project's first commit."""
        repository = endpoint.repository(name)
        source = self.work.small
        subprocess.run(push(source, str(repository), self.work.small_commits[0]), check=True, env=git_environment())
        return repository


class Exec(Case):
    """A cold connection that asks for nothing much; `whoami` is a command on both sides."""

    name, title, targets, local = "exec", "exec of a trivial command, cold connection", (0.10, 0.15), False
    warm_up = WARM_UP

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Ask."""
        assert isinstance(endpoint, Slipway | OpenSsh)
        return [timed([*endpoint.ssh(), "whoami"], {})]


class OneCommit(Case):
    """The everyday push."""

    name, title, targets = "one", "push of one commit", (0.18, 0.28)
    warm_up = WARM_UP

    def prepare(self, endpoint: Endpoint) -> None:
        """Have the first commit there."""
        self._repositories[endpoint.name] = self._begin(endpoint, f"{self.name}-app")

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Push one more."""
        return [timed(self._push_next(endpoint, self._repositories[endpoint.name]), endpoint.environment())]


class ManyRefs(OneCommit):
    """The same where there are many refs."""

    name, title, targets = "refs", "the same on a repository with 5,000 refs", (0.22, 0.32)

    def prepare(self, endpoint: Endpoint) -> None:
        """Add the refs, packed."""
        super().prepare(endpoint)
        add_refs(self._repositories[endpoint.name], self.work.small_commits[0], 5_000)


class ManyPushes(OneCommit):
    """The same where there have been many pushes, all of them over SSH."""

    name, title, targets, local = "pushes", "the same after 1,000 earlier pushes", (0.20, 0.30), False

    def prepare(self, endpoint: Endpoint) -> None:
        """Push a thousand times."""
        super().prepare(endpoint)
        assert isinstance(endpoint, Slipway | OpenSsh)
        many_pushes(endpoint, self._repositories[endpoint.name], 0, 100 if self.work.quick else 1_000)


class AtOnce(Case):
    """Many teams at the same moment."""

    name, title, targets = "at-once", "20 pushes at once to 20 repositories", (0.27, 0.55)

    def prepare(self, endpoint: Endpoint) -> None:
        """Make the repositories."""
        for number in range(20):
            name = f"{self.name}-{number}"
            self._repositories[f"{endpoint.name} {number}"] = self._begin(endpoint, name)

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Push to all, and wait for the last."""
        repositories = [self._repositories[f"{endpoint.name} {number}"] for number in range(20)]
        commands = [self._push_next(endpoint, repository) for repository in repositories]
        begun = time.perf_counter()
        processes = [subprocess.Popen(words, env=endpoint.environment()) for words in commands]
        statuses = [process.wait() for process in processes]
        if any(statuses):
            raise RuntimeError(f"a push to {endpoint.name} failed")
        return [time.perf_counter() - begun]


class FirstPush(Case):
    """A project moves in."""

    name, title, targets = "first", "first push, 100,000 objects", (0.75, 0.75)

    def source(self) -> Path:
        """Return what is pushed."""
        return self.work.large

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Push all of it to an empty repository."""
        repository = self._empty(endpoint)
        seconds = timed(push(self.source(), endpoint.url(repository), "main"), endpoint.environment())
        self._clear(repository)
        return [seconds]

    def _empty(self, endpoint: Endpoint) -> Path:
        if endpoint.name not in self._repositories:
            self._repositories[endpoint.name] = endpoint.repository(f"{self.name}-app")
            self.source()
        return self._repositories[endpoint.name]

    def _clear(self, repository: Path) -> None:
        shutil.rmtree(repository / "objects")
        (repository / "objects" / "pack").mkdir(parents=True)
        (repository / "objects" / "info").mkdir()
        (repository / BRANCH).unlink()


class Blob(FirstPush):
    """One large file. The second of the others keeps it as a pack, where git would unpack it into a loose object."""

    name, title, targets = "blob", "one 300 MB incompressible blob", (0.33, 0.85)

    def source(self) -> Path:
        """Return what is pushed."""
        return self.work.blob(300)

    def _empty(self, endpoint: Endpoint) -> Path:
        fresh = endpoint.name not in self._repositories
        repository = super()._empty(endpoint)
        if fresh and endpoint.name == "tuned":
            histories.git(repository, "config", "receive.unpackLimit", "1")
        return repository


class Clone(Case):
    """Somebody joins."""

    name, title, targets = "clone", "clone of the repository above", (0.95, 0.95)

    def prepare(self, endpoint: Endpoint) -> None:
        """Have it there."""
        repository = endpoint.repository(f"{self.name}-app")
        subprocess.run(push(self.work.large, str(repository), "main"), check=True, env=git_environment())
        self._repositories[endpoint.name] = repository

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Clone it."""
        target = self.work.folder / "clone"
        url = endpoint.url(self._repositories[endpoint.name])
        seconds = timed(["git", "clone", "-q", "--bare", url, str(target)], endpoint.environment())
        shutil.rmtree(target)
        return [seconds]


class FarAway(FirstPush):
    """A client on another continent: what counts is how much it may send ahead."""

    name, title, targets, local = "far", "100 MB over a 50 ms round trip", (0.30, 0.30), False

    def source(self) -> Path:
        """Return what is pushed."""
        return self.work.blob(100)

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Push through the delay."""
        assert isinstance(endpoint, Slipway | OpenSsh)
        repository = self._empty(endpoint)
        with Relay(endpoint.port, seconds=0.025) as port:
            url = endpoint.url(repository).replace(f":{endpoint.port}/", f":{port}/")
            environment = endpoint.environment() | {"GIT_SSH_COMMAND": " ".join(endpoint.ssh(port)[:-1])}
            seconds = timed(push(self.source(), url, "main"), environment)
        self._clear(repository)
        return [seconds]


class Beside(Case):
    """Small pushes while a large one runs; the figure is the time that 95 of 100 of them stay below."""

    name, title, targets, quantile = "beside", "p95 of one-commit pushes while a large push runs", (0.30, 0.45), 0.95

    def prepare(self, endpoint: Endpoint) -> None:
        """Have a repository for each kind."""
        self._large = FirstPush(self.work)
        self._repositories[endpoint.name] = self._begin(endpoint, f"{self.name}-app")
        self._repositories[f"{endpoint.name} large"] = endpoint.repository(f"{self.name}-large")

    def measure(self, endpoint: Endpoint) -> list[float]:
        """Push small ones until the large one is done."""
        large = self._repositories[f"{endpoint.name} large"]
        words = push(self.work.large, endpoint.url(large), "main")
        process = subprocess.Popen(words, env=endpoint.environment())
        times: list[float] = []
        while process.poll() is None:
            small = self._push_next(endpoint, self._repositories[endpoint.name])
            times.append(timed(small, endpoint.environment()))
        if process.returncode != 0:
            raise RuntimeError(f"the large push to {endpoint.name} failed")
        self._large._clear(large)
        return times


CASES: Sequence[type[Case]] = (
    Exec, OneCommit, ManyRefs, ManyPushes, AtOnce, FirstPush, Blob, Clone, FarAway, Beside,
)  # fmt: skip


def push(source: Path, url: str, commit: str) -> list[str]:
    """Return the words of a push."""
    return ["git", "--git-dir", str(source), "push", "-q", url, f"{commit}:{BRANCH}"]


def timed(words: Sequence[str], environment: dict[str, str]) -> float:
    """Run a program and return its wall time, in seconds."""
    begun = time.perf_counter()
    done = subprocess.run(words, env=environment or None, capture_output=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr.decode(errors='replace')}")
    return seconds


def add_refs(repository: Path, commit: str, count: int) -> None:
    """Add branches that all hold one commit, packed, to a repository that has packed none (git-pack-refs(1))."""
    lines = "".join(f"{commit} refs/heads/topic/{number:05}\n" for number in range(count))
    (repository / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{lines}")
