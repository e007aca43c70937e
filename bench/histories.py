"""Repositories to push from, the same ones on every machine."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.endpoints import git_environment

FILES = 2_000
"""Files of the large history, in folders three deep, as a project of some years has them."""

LINES = 60
"""Lines of a file when it is new."""


def git(folder: Path, *words: str, stdin: bytes | None = None) -> str:
    """Run git in `folder` and return its output without the last line end."""
    done = subprocess.run(
        ["git", *words], cwd=folder, env=git_environment(), input=stdin, stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode().rstrip("\n")


def small(folder: Path, count: int) -> None:
    """Make a project of 200 files with `count` commits after the first."""
    _import(folder, count, files=200, changes=1)


def commits(folder: Path) -> list[str]:
    """Return the ids of a history's commits, oldest first."""
    return git(folder, "rev-list", "--reverse", "--first-parent", "main").split()


def large(folder: Path, objects: int) -> None:
    """Make a history of about `objects` objects, packed as a clone would be: edits of text in a tree of folders."""
    # The files of a short history are fewer, for they and the folders around them are objects too.
    files = FILES if objects >= 100_000 else max(2, objects // 10)
    begin = 0 if objects >= 100_000 else files * 2 + 10
    # A commit, two blobs, and about five trees above them.
    _import(folder, max(0, objects - begin) * 10 // 76, files=files, changes=min(2, files))
    # fast-import finds few deltas; a project that lives has been repacked many times.
    git(folder, "repack", "-q", "-a", "-d", "-f")


def blob(folder: Path, size: int) -> None:
    """Make one commit with one incompressible file of `size` bytes, packed, so that a push need not compress it."""
    init(folder)
    chance = random.Random(size)
    noise = b"".join(chance.randbytes(1 << 20) for _ in range(size >> 20))
    stream = _commit(1, [("noise.bin", noise)])
    git(
        folder,
        "-c",
        "core.compression=0",
        "-c",
        "fastimport.unpackLimit=1",
        "fast-import",
        "--quiet",
        stdin=b"".join(stream),
    )


def _import(folder: Path, count: int, *, files: int, changes: int) -> None:
    init(folder)
    process = subprocess.Popen(
        ["git", "fast-import", "--quiet"], cwd=folder, env=git_environment(), stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        for part in _stream(random.Random(files), count, files, changes):
            stdin.write(part)
    if process.wait() != 0:
        raise RuntimeError("git fast-import failed")


def _stream(chance: random.Random, count: int, files: int, changes: int) -> Iterator[bytes]:
    words = [f"{chance.getrandbits(40):x}" for _ in range(5_000)]

    def line() -> str:
        return " ".join(chance.choices(words, k=7))

    contents = [[line() for _ in range(LINES)] for _ in range(files)]
    yield from _commit(1, [(_name(number), _text(lines)) for number, lines in enumerate(contents)])
    for mark in range(2, count + 2):
        changed = chance.sample(range(files), changes)
        for number in changed:
            contents[number][chance.randrange(len(contents[number]))] = line()
        yield from _commit(mark, [(_name(number), _text(contents[number])) for number in changed])


def _commit(mark: int, files: list[tuple[str, bytes]]) -> Iterator[bytes]:
    message = f"change {mark}\n".encode()
    yield b"commit refs/heads/main\nmark :%d\n" % mark
    yield b"committer Bench <bench@localhost> %d +0000\ndata %d\n%s" % (
        1_600_000_000 + mark * 60,
        len(message),
        message,
    )
    for name, content in files:
        yield b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content)


def init(folder: Path) -> None:
    """Make an empty bare repository in a new folder."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "--bare", "-b", "main", ".")


def _name(number: int) -> str:
    return f"part{number % 10}/module{number // 10 % 20}/file{number}.txt"


def _text(lines: list[str]) -> bytes:
    return "\n".join(lines).encode() + b"\n"
