"""A front door for git's own tests: `python -m tests.suites.git_front_door FD HOST_KEY PUBLIC_KEY`.

Git's tests push to any folder and set repositories up with configuration and hooks, neither of which a deploy server
has: its policy is `hooks.pre_receive`. So what the product asks there is asked of git's configuration and hooks here,
and the rest (transport, protocol, packs, quarantine, connectivity, refs, report) is the product's.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import structlog
from dulwich.objects import ObjectID
from dulwich.refs import Ref

from gitserver import advertisement, fsck_exceptions, receive_pack, submodules
from gitserver.command_list import PushProtocol, name_refusal
from gitserver.front_door import FrontDoor
from gitserver.fsck_exceptions import Fsck
from gitserver.limits import Limits
from gitserver.places import Places
from gitserver.quarantine import Quarantine
from gitserver.visible_refs import read_refs
from hooks.engine_room import Caller, EngineRoom, GitService, Repository, User
from hooks.pre_receive import ZERO, RefUpdate, Verdict
from store.errors import RefusedError

CAPABILITIES = advertisement.CAPABILITIES


class AnyFolder(EngineRoom):
    """Knows one key, and lets its owner reach every repository of the machine."""

    def __init__(self, key: str) -> None:
        super().__init__(Path("/nowhere"))
        self._key = key

    def on_behalf_of(self, caller: Caller) -> EngineRoom:
        return self

    def authenticate(self, key: str, name: str = "") -> User | None:
        return User(1, "tester") if key == self._key else None

    def repository(self, user: User, path: str, service: GitService) -> Repository:
        # As git's enter_repo() finds them (path.c).
        for suffix in ("/.git", "", ".git/.git", ".git"):
            if Path(path + suffix, "HEAD").exists():
                return Repository("any", Path(path + suffix), ())
        raise RefusedError(f"'{path}' does not appear to be a git repository")


def config(repository: Path, kind: str, name: str) -> str:
    """Ask a repository's configuration."""
    words = ["git", "--git-dir", str(repository), "config", kind, name]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def is_hidden(repository: Path, ref: str) -> bool:
    """Tell whether a ref is hidden; what is configured last counts (git-config(1), `transfer.hideRefs`)."""
    names = [config(repository, "--get-all", f"{section}.hideRefs") for section in ("transfer", "receive")]
    for name in reversed("\n".join(names).split()):
        if (ref + "/").startswith(name.lstrip("!").rstrip("/") + "/"):
            return not name.startswith("!")
    return False


def visible_refs(repository: Path) -> dict[Ref, ObjectID]:
    """Return what is advertised, and have it go with the capabilities that are configured."""
    left = {
        b"atomic": config(repository, "--bool", "receive.advertiseAtomic") != "false",
        b"push-options": config(repository, "--bool", "receive.advertisePushOptions") == "true",
    }
    # One push after another, in these tests.
    advertisement.CAPABILITIES = tuple(word for word in CAPABILITIES if left.get(word, True))
    return {name: oid for name, oid in read_refs(repository).items() if not is_hidden(repository, name.decode())}


def fsck(repository: Path, read: Callable[[Path], Fsck] = fsck_exceptions.read) -> Fsck:
    """Return the product's checks where Git has them switched on (git-config(1), `receive.fsckObjects`), else none."""
    names = ("receive.fsckObjects", "transfer.fsckObjects")
    switch = next(filter(None, (config(repository, "--bool", name) for name in names)), "false")
    return read(repository) if switch == "true" else Fsck(())


class PushUnderGitsRules(receive_pack._Push):
    """A push whose policy is the repository's configuration and hooks, as with git-receive-pack(1)."""

    def run(self, protocol: PushProtocol) -> str | None:
        # 0 is for no limit.
        if most := int(self._config("receive.maxInputSize") or 0):
            self.limits = replace(self.limits, pack_bytes=most)
        unpack = super().run(protocol)
        # What was deleted and had not been there is no event (builtin/receive-pack.c, did_not_exist).
        moved = [update for update in self.request.updates if (update.old, update.new) != (ZERO, ZERO)]
        done = [update for update in moved if self.results[update.ref] is None]
        if done:
            self._run_hook("post-receive", [], done, self._options())
            self._run_hook("post-update", [update.ref for update in done], [])
        return unpack

    def _config(self, name: str, kind: str = "--int") -> str:
        return config(self.repository.path, kind, name)

    def _is(self, name: str) -> bool:
        return self._config(name, "--bool") == "true"

    def _judge(self) -> list[Verdict]:
        verdicts = [Verdict(update) for update in self.request.updates]
        self.results = {update.ref: name_refusal(update) for update in self.request.updates}
        return verdicts

    def _refuse_broken(self, objects: Quarantine, verdicts: Sequence[Verdict], search: submodules.Search) -> None:
        super()._refuse_broken(objects, verdicts, search)
        environment = objects.environment
        left = [v.update for v in verdicts if self.results[v.update.ref] is None]
        for update in left:
            self.results[update.ref] = self._refusal(update, environment)
        if not left or (self._atomic and any(self.results.values())):
            return
        if not self._run_hook("pre-receive", [], left, {**environment, **self._options()}):
            self.results |= {update.ref: "pre-receive hook declined" for update in left}
            return
        for update in left:
            words = [update.ref, update.old, update.new]
            if self.results[update.ref] is None and not self._run_hook("update", words, [], environment):
                self.band.progress(f"error: hook declined to update {update.ref}\n".encode())
                self.results[update.ref] = "hook declined"

    def _refusal(self, update: RefUpdate, environment: dict[str, str]) -> str | None:
        """Return what git's receive-pack says against an update by its configuration (builtin/receive-pack.c)."""
        if is_hidden(self.repository.path, update.ref):
            return "deny deleting a hidden ref" if update.new == ZERO else "deny updating a hidden ref"
        bare = self._is("core.bare")
        head = (self.repository.path / "HEAD").read_text().strip().removeprefix("ref: ")
        if not bare and update.ref == head and update.new != ZERO:
            allowed = self._config("receive.denyCurrentBranch", "--get") or "refuse"
            if allowed in ("refuse", "true"):
                return "branch is currently checked out"
            if allowed == "updateInstead":
                return "updateInstead is not supported"
        if update.new == ZERO:
            if self._is("receive.denyDeletes"):
                return "deletion prohibited"
            if update.ref == head and (self._config("receive.denyDeleteCurrent", "--get") or "refuse") == "refuse":
                return "deletion of the current branch prohibited"
        elif update.old != ZERO and self._is("receive.denyNonFastForwards") and update.ref.startswith("refs/heads/"):
            git = ["git", "--git-dir", str(self.repository.path)]
            words = [*git, "merge-base", "--is-ancestor", update.old, update.new]
            if subprocess.run(words, env={**os.environ, **environment}, capture_output=True, check=False).returncode:
                return "non-fast-forward"
        return None

    def _options(self) -> dict[str, str]:
        if b"push-options" not in self.request.capabilities:
            return {}
        given = {f"GIT_PUSH_OPTION_{n}": option.reveal() for n, option in enumerate(self.request.options)}
        return {"GIT_PUSH_OPTION_COUNT": str(len(given)), **given}

    def _run_hook(
        self, name: str, words: list[str], updates: Sequence[RefUpdate], extra: dict[str, str] | None = None
    ) -> bool:
        """Run a hook if there is one (githooks(5)), show what it prints, and return whether it agreed."""
        hook = self.repository.path / "hooks" / name
        if not os.access(hook, os.X_OK):
            return True
        done = subprocess.run(
            [str(hook), *words],
            cwd=self.repository.path,
            env={**os.environ, "GIT_DIR": ".", **(extra or {})},
            input="".join(f"{update.old} {update.new} {update.ref}\n" for update in updates).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.stdout:
            self.band.progress(done.stdout)
        return done.returncode == 0


def main() -> None:
    descriptor, host_key, public_key = sys.argv[1:]
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    receive_pack._Push = PushUnderGitsRules  # type: ignore[misc]  # what this module is for
    receive_pack.read_refs = visible_refs  # type: ignore[attr-defined]  # as above
    fsck_exceptions.read = fsck
    limits = Limits()
    door = FrontDoor(
        socket.socket(fileno=int(descriptor)),
        engine_room=AnyFolder(" ".join(Path(public_key).read_text().split()[:2])),
        host_key=Path(host_key),
        limits=limits,
        places=Places(limits.connection).of(0),
        drain_seconds=1,
    )
    signal.signal(signal.SIGTERM, lambda number, frame: door.drain())
    door.run()


if __name__ == "__main__":
    main()
