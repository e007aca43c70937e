"""C git's programs: how they are called, and how one is run between a client's streams.

The argument lists are pure functions, so that a test reads like the command. Every program runs with an environment of
its own, in which no configuration but the repository's counts.
"""

from __future__ import annotations

import fcntl
import os
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


INDEX_BYTES_PER_OBJECT = 160
"""What git-index-pack keeps of each object: its place, its id, what it points to. Measured: 17 MB for 106,000."""

STACK_BYTES = 1 << 20
"""For each thread of a program. It counts as its data, and the usual 8 MiB would be a third of them."""

MODEST = {
    # Objects that deltas are applied to; the default is 96 MiB for each thread.
    "core.deltaBaseCacheLimit": "4m",
    # What is mapped of packs at a time counts as the program's memory as well; by default it is all of them.
    "core.packedGitWindowSize": "1m",
    "core.packedGitLimit": "8m",
}
"""Settings with which programs keep less in memory, and are no slower over a hundred thousand objects."""


def installed() -> bool:
    """Tell whether C git is there. Without it, dulwich does the same work more slowly."""
    return shutil.which("git") is not None


def upload_pack(repository: Path) -> list[str]:
    """Return the words of git-upload-pack(1) on a bare repository, the server's own refs hidden."""
    hidden = RESERVED.rstrip("/")
    return [*_git(repository, {"transfer.hideRefs": hidden}), "upload-pack", "--strict", str(repository)]


def index_pack(
    repository: Path, *, fsck: Sequence[str], progress: bool, most_bytes: int, threads: int | None = None
) -> list[str]:
    """Return the words of git-index-pack(1) as git-receive-pack calls it with `receive.fsckObjects`.

    It reads a pack of at most `most_bytes` from standard input, checks every object of it and that all they point to is
    there, as the options `fsck` say, and completes a thin pack. On standard output it names the pack. Exit status 0
    says that the pack's objects lead to nothing outside it, 1 that they do. It resolves deltas in as many threads as
    there are cores, unless `threads` says how many.
    """
    words = [
        *_git(repository, {"core.bigFileThreshold": str(STREAMED_BYTES), **MODEST}),
        *("index-pack", "--stdin", "--fix-thin", *fsck, "--check-self-contained-and-connected"),
        *("--report-end-of-input", f"--max-input-size={most_bytes}"),
    ]
    if threads is not None:
        words.append(f"--threads={threads}")
    return [*words, "--show-resolving-progress"] if progress else words


def connectivity(repository: Path) -> list[str]:
    """Return the words of git-rev-list(1) as Git checks connectivity (connected.c).

    It reads object ids from standard input and fails unless all that they lead to is there, up to what refs hold.
    """
    return [
        *_git(repository, MODEST),
        "rev-list",
        "--objects",
        "--stdin",
        "--not",
        "--all",
        "--quiet",
        "--alternate-refs",
    ]


def commits_that_change(repository: Path, path: str) -> list[str]:
    """Return the words of git-rev-list(1) that name the commits of new history that change what matches `path`.

    It reads ids from standard input; new is what no ref leads to. It keeps no commit's text, as git-log(1) would.
    """
    return [*_git(repository, MODEST), "rev-list", "--stdin", "--not", "--all", "--full-history", "--", path]


def versions_in(repository: Path, path: str) -> list[str]:
    """Return the words of git-diff-tree(1) that list each version of what matches `path` in some commits.

    It reads their ids from standard input. Merges are compared with each of their parents.
    """
    words = ("--stdin", "-m", "--root", "--no-commit-id", "--raw", "--no-abbrev", "--no-renames", "--diff-filter=d")
    return [*_git(repository, MODEST), "diff-tree", *words, "--", path]


def gc(repository: Path) -> list[str]:
    """Return the words of git-gc(1) that tidy up where that is due, in the foreground and in little memory."""
    settings = {"gc.autoDetach": "false", "pack.threads": "1", "pack.windowMemory": "16m", "pack.deltaCacheSize": "16m"}
    return [*_git(repository, settings), "gc", "--auto", "--quiet"]


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


def limited(words: Sequence[str], data_bytes: int) -> list[str]:
    """Return the words that run a program which gets no more than so many bytes for its data (getrlimit(2)).

    They bind it before it begins, as a limit set from outside would not.
    """
    script = f'ulimit -s {STACK_BYTES >> 10} && ulimit -d {data_bytes >> 10} && exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *words]


def _git(repository: Path, settings: Mapping[str, str] | None = None) -> list[str]:
    # The data folder may belong to another user than the process; the engine room has said that this path is meant.
    given = {"safe.directory": str(repository), **(settings or {})}
    words = (word for name, value in given.items() for word in ("-c", f"{name}={value}"))
    return ["git", *words, "--git-dir", str(repository)]


class Child:
    """A running Git program, whose standard input may be fed from a client."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._stdout = cast(IO[bytes], process.stdout)
        self._stderr = cast(IO[bytes], process.stderr)
        for pipe in filter(None, (process.stdin, self._stdout)):
            # More than the limit for unprivileged users leaves the pipe as it was (pipe(7)).
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._stdin: int | None = None
        if process.stdin is not None:
            # Whoever feeds it closes it in its own time, which no other owner of the descriptor may forestall.
            self._stdin = os.dup(process.stdin.fileno())
            process.stdin.close()

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
    words: Sequence[str],
    env: Mapping[str, str],
    streams: ClientStreams,
    *,
    folder: Path = Path("/"),
    source: IO[bytes] | None = None,
) -> Iterator[Child]:
    """Run a program in `folder`, which dies with its client and never outlives the block.

    It reads `source`, or what it is fed.
    """
    with subprocess.Popen(
        words,
        stdin=source or subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=folder,
        bufsize=0,
        process_group=0,
    ) as process:
        child = Child(process)
        try:
            with streams.when_gone(child.kill):
                yield child
        finally:
            child.close()


def _chunks(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, CHUNK_BYTES):
        yield data
