"""C git's programs: how they are called, and how one is run between a client's streams.

The argument lists are pure functions, so that a test reads like the command. Every program runs with an environment of
its own, in which no configuration but the repository's counts.
"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from gitserver.streams import ClientStreams
from hooks.pre_receive import RESERVED

PIPE_BYTES = 1 << 20
"""Size asked for the pipes to and from a program: with the default, 64 KiB, both sides often wait for each other."""

CHUNK_BYTES = 1 << 16
"""How much is moved at a time; two SSH packets."""


STREAMED_BYTES = 4 << 20
"""A larger blob is never in a program's memory as a whole: with Git's default, 512 MiB, a push of one could be."""


INDEX_BYTES_PER_OBJECT = 512
"""What git-index-pack keeps of each object, generously: its place, its id, what it points to."""


def installed() -> bool:
    """Tell whether C git is there. Without it, dulwich does the same work more slowly."""
    return shutil.which("git") is not None


def upload_pack(repository: Path) -> list[str]:
    """Return the words of git-upload-pack(1) on a bare repository, the server's own refs hidden."""
    hidden = RESERVED.rstrip("/")
    return [*_git(repository), "-c", f"transfer.hideRefs={hidden}", "upload-pack", "--strict", str(repository)]


def index_pack(repository: Path, *, progress: bool, most_bytes: int) -> list[str]:
    """Return the words of git-index-pack(1) as git-receive-pack calls it with `receive.fsckObjects`.

    It reads a pack of at most `most_bytes` from standard input, checks every object of it and that all they point to is
    there, and completes a thin pack. On standard output it names the pack. Exit status 0 says that the pack's objects
    lead to nothing outside it, 1 that they do.
    """
    words = [
        *_git(repository),
        *("-c", f"core.bigFileThreshold={STREAMED_BYTES}"),
        *("index-pack", "--stdin", "--fix-thin", "--strict", "--check-self-contained-and-connected"),
        *("--report-end-of-input", f"--max-input-size={most_bytes}"),
    ]
    return [*words, "--show-resolving-progress"] if progress else words


def connectivity(repository: Path) -> list[str]:
    """Return the words of git-rev-list(1) as Git checks connectivity (connected.c).

    It reads object ids from standard input and fails unless all that they lead to is there, up to what refs hold.
    """
    return [*_git(repository), "rev-list", "--objects", "--stdin", "--not", "--all", "--quiet", "--alternate-refs"]


def history_of(repository: Path, path: str) -> list[str]:
    """Return the words of git-log(1) that list each version of what matches `path` in the new history of commits.

    It reads their ids from standard input; new is what no ref leads to. Merges are compared with each of their parents.
    """
    words = ("--stdin", "--not", "--all", "--full-history", "-m", "--format=", "--raw", "--no-abbrev", "--no-renames")
    return [*_git(repository), "-c", "log.showRoot=true", "log", *words, "--diff-filter=d", "--", path]


def gc(repository: Path) -> list[str]:
    """Return the words of git-gc(1) that tidy up where that is due, in the foreground and in little memory."""
    modest = ("gc.autoDetach=false", "pack.threads=1", "pack.windowMemory=16m", "pack.deltaCacheSize=16m")
    return [*_git(repository), *(word for setting in modest for word in ("-c", setting)), "gc", "--auto", "--quiet"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a Git program: nothing of the server's own but the way to programs."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        # Messages are read by people of any country, and by the tests.
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **(extra or {}),
    }


def _git(repository: Path) -> list[str]:
    # The data folder may belong to another user than the process; the engine room has said that this path is meant.
    return ["git", "-c", f"safe.directory={repository}", "--git-dir", str(repository)]


class Child:
    """A running Git program whose standard input is fed from a client."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        stdin = cast(IO[bytes], process.stdin)
        self._stdout = cast(IO[bytes], process.stdout)
        self._stderr = cast(IO[bytes], process.stderr)
        for pipe in (stdin, self._stdout):
            # More than the limit for unprivileged users leaves the pipe as it was (pipe(7)).
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # Whoever feeds it closes it in its own time, which no other owner of the descriptor may forestall.
        self._stdin: int | None = os.dup(stdin.fileno())
        stdin.close()

    def feed(self, streams: ClientStreams, first: bytes = b"") -> None:
        """Have `first` and then all of a client's input passed on to the program.

        When the program takes no more, the rest is thrown away, so that a client who is still sending gets to the point
        where it reads why.
        """
        descriptor, self._stdin = self._stdin, None
        if descriptor is not None:
            streams.divert(descriptor, first)

    def close(self) -> None:
        """Kill the program with those that it has started, if it still runs, and close what it was not fed from."""
        self.kill()
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def output(self) -> Iterator[bytes]:
        """Yield the program's standard output as it comes."""
        return _chunks(self._stdout.fileno())

    def errors(self) -> Iterator[bytes]:
        """Yield the program's standard error as it comes."""
        return _chunks(self._stderr.fileno())

    def wait(self) -> int:
        """Return the program's exit status, negative for a signal."""
        return self._process.wait()

    def kill(self) -> None:
        """Kill the program with those that it has started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


@contextmanager
def running(
    words: Sequence[str], env: Mapping[str, str], streams: ClientStreams, *, most_memory: int | None = None
) -> Iterator[Child]:
    """Run a program that dies with its client and never outlives the block.

    With `most_memory`, it gets no more than so many bytes for its data (getrlimit(2), RLIMIT_DATA).
    """
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd="/",
        bufsize=0,
        process_group=0,
    ) as process:
        if most_memory is not None:
            # The program has read nothing yet, so that it is early enough; unless it has failed already.
            with suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (most_memory, most_memory))
        child = Child(process)
        try:
            with streams.when_gone(child.kill), streams.awaiting_input():
                yield child
        finally:
            child.close()


def _chunks(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, CHUNK_BYTES):
        yield data
