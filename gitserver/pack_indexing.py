"""A pack from the wire taken by git-index-pack(1): written down, every object checked, in bounded memory."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dulwich.objects import ObjectID

from gitserver import git_program
from gitserver.fsck_exceptions import Fsck
from gitserver.limits import PushLimits
from gitserver.quarantine import Quarantine
from gitserver.small_pack import COUNT, DamagedPackError
from gitserver.streams import ClientGoneError, ClientStreams
from hooks.engine_room import Repository
from store.durable import synchronise

SHALLOW_FILE = "shallow-of-the-pusher"
"""In the quarantine: commits whose parents the pusher does not have."""

DRAFT = "tmp_pack_*"
"""What the program calls the pack in the quarantine while it has no name yet (builtin/index-pack.c, open_pack_file)."""

WRITE_SECONDS = 0.2
"""How often the disk is told to write what has come of a pack."""

END_OF_INPUT = b"\0"
"""What the program writes to its standard error when it has read the whole pack (`--report-end-of-input`)."""

NOT_SELF_CONTAINED = 1
"""Its exit status for a sound pack whose objects lead to others (`--check-self-contained-and-connected`)."""

MAX_ERROR_BYTES = 4096
"""How much of its last words is kept to understand them."""

_NO_MEMORY = (b"out of memory", b"cannot allocate memory", b"unable to create thread")


@dataclass
class _Outcome:
    """What has become of one run of the program."""

    status: int
    errors: bytes
    named: bool
    """Whether it has said what the pack is called."""
    whole: bool
    """Whether it has read all of the pack."""

    @property
    def short_of_memory(self) -> bool:
        return self.status != 0 and any(words in self.errors.lower() for words in _NO_MEMORY)


@dataclass
class PackIndexing:
    """One pack, of which `received` has come already. `say` gets what the user should see."""

    streams: ClientStreams
    repository: Repository
    quarantine: Quarantine
    received: bytes
    fsck: Fsck
    limits: PushLimits
    say: Callable[[bytes], None]
    progress: bool

    def take(self, shallow: Collection[str]) -> None:
        """Have it taken into the quarantine. Commits in `shallow` may lack their parents.

        Raises DamagedPackError, PushLimitError and ClientGoneError.
        """
        env = git_program.environment(self.quarantine.environment)
        if shallow:
            env["GIT_SHALLOW_FILE"] = str(self._shallow_file(shallow))
        for name in self.fsck.unknown:
            self.say(f"warning: skipping unknown msg id '{name}' of receive.fsck\n".encode())
        memory = self.limits.unpack_memory(int.from_bytes(self.received[COUNT]), git_program.INDEX_BYTES_PER_OBJECT)
        outcome = self._run(env, memory)
        if outcome.short_of_memory and outcome.whole:
            # The threads resolve deltas side by side, each with objects of its own: one by itself may have enough.
            with self._draft() as file:
                memory = self.limits.more_unpack_memory(memory, os.fstat(file.fileno()).st_size + self._held_before())
                outcome = self._run(env, memory, file)
        if b"exceeds maximum allowed size" in outcome.errors:
            self.limits.check_pack(self.limits.pack_bytes + 1)
        if outcome.short_of_memory:
            raise self.limits.no_memory(memory)
        if outcome.status not in (0, NOT_SELF_CONTAINED) or not outcome.named:
            raise DamagedPackError("index-pack abnormal exit")
        if outcome.status == 0 and not shallow:
            self.quarantine.self_contained = True

    @contextmanager
    def _draft(self) -> Iterator[IO[bytes]]:
        """Open the pack that the program has written down and left behind, which has no name any more."""
        (path,) = (self.quarantine.folder / "pack").glob(DRAFT)
        path.chmod(0o600)
        with path.open("r+b") as file:
            path.unlink()
            # The program has compared the pack's checksum and kept it to itself.
            file.write(hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).digest())
            file.seek(0)
            yield file

    def _shallow_file(self, shallow: Collection[str]) -> Path:
        with self.quarantine.store() as store:
            # A commit that is here already has its parents here: only the others are where history may end.
            ends = [oid for oid in shallow if ObjectID(oid.encode()) not in store]
        path = self.quarantine.folder / SHALLOW_FILE
        path.write_text("".join(f"{oid}\n" for oid in ends))
        return path

    def _held_before(self) -> int:
        """Return the bytes of the repository's own packs."""
        return sum(path.stat().st_size for path in self.repository.path.glob("objects/pack/*.pack"))

    def _run(self, env: dict[str, str], memory: int, again: IO[bytes] | None = None) -> _Outcome:
        """Run the program in so many bytes on what the client sends, or on a pack that has come, delta after delta."""
        words = git_program.index_pack(
            self.repository.path,
            fsck=self.fsck.options,
            progress=self.progress,
            most_bytes=self.limits.pack_bytes,
            threads=None if again is None else 1,
        )
        said: list[bytes] = []
        outcome = _Outcome(0, b"", named=False, whole=False)
        with git_program.running(
            git_program.limited(words, memory), env, self.streams, folder=self.repository.path, source=again
        ) as child:
            names = threading.Thread(target=lambda: said.extend(child.output()), daemon=True)
            names.start()
            with ExitStack() as waiting, _written_meanwhile(self.quarantine.folder / "pack"):
                if again is None:
                    child.feed(self.streams, self.received)
                    waiting.enter_context(self.streams.awaiting_input())
                for data in child.errors():
                    if END_OF_INPUT in data:
                        # From here on the client waits for us.
                        waiting.close()
                        outcome.whole = True
                    outcome.errors = (outcome.errors + data)[-MAX_ERROR_BYTES:]
                    if (shown := data.replace(END_OF_INPUT, b"")) and not any(
                        each in shown.lower() for each in _NO_MEMORY
                    ):
                        self.say(shown)
            names.join()
            outcome.status = child.wait()
        if self.streams.gone:
            raise ClientGoneError
        outcome.named = bool(said)
        return outcome


@contextmanager
def _written_meanwhile(folder: Path) -> Iterator[None]:
    """Have the disk write drafts of packs in `folder` while they come, since the program waits for it at the end."""
    over = threading.Event()

    def write() -> None:
        while not over.wait(WRITE_SECONDS):
            for path in folder.glob(DRAFT):
                # It may have got its name by now.
                with suppress(OSError):
                    synchronise(path)

    writing = threading.Thread(target=write, name="write-pack", daemon=True)
    writing.start()
    try:
        yield
    finally:
        over.set()
        writing.join()
