"""What a `.gitmodules` file may say (gitmodules(5)): nothing that harms whoever clones with `--recurse-submodules`.

Git's own fsck refuses names, URLs and commands that are attacks (fsck.c, fsck_gitmodules_fn), and has no word about a
path that leads out of the repository. All of it is checked here, since the same has to hold where Git is not installed.
"""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast
from urllib.parse import unquote_to_bytes

from dulwich.config import ConfigFile

from gitserver import git_program
from gitserver.quarantine import Quarantine

FILE = b".gitmodules"

PATHS = ":(icase).gitmodules"
"""The file, as some file systems would find it too (gitglossary(7), pathspec)."""

MAX_BYTES = 1 << 20
"""Longest file. Each entry takes some hundred bytes."""

MAX_TOTAL_BYTES = 16 << 20
"""Most bytes of all versions of it that one push may bring: each is read, in Python."""

MAX_SECONDS = 300
"""Processor time of a search. A million commits take some ten."""

MAX_LISTING_BYTES = 24 << 20
"""Memory for the commits that change such a file, of which most histories have a few."""

MAX_SEARCHES = 20
"""Most refs of one push that are told apart by a search each; with more, one that is refused is the end of all."""

_DRIVE = re.compile(rb"[A-Za-z]:")
_UP_AND_OUT = re.compile(rb"(?:\.\.?/)+[:/]")
_WEB = re.compile(rb"(?:(?:https?|ftps?)::)?(?:https?|ftps?)://([^/?#]*)", re.IGNORECASE)
_ENTRY = re.compile(rb"^:.*? ([0-7]{6}) .*? ([0-9a-f]{40}) [A-Z]\t", re.MULTILINE)
"""A line of `git log --raw`: the new mode and the new object (git-diff(1), "Raw output format")."""


class UnsafeSubmoduleError(Exception):
    """A `.gitmodules` file says what it must not; the text is the reason."""


def check(content: bytes) -> None:
    """Take the content of a `.gitmodules` file. Raises UnsafeSubmoduleError."""
    if len(content) > MAX_BYTES:
        raise UnsafeSubmoduleError("its .gitmodules is larger than 1 MiB")
    try:
        config = ConfigFile.from_file(BytesIO(content))
    except ValueError:
        raise UnsafeSubmoduleError("its .gitmodules cannot be read; see git config -f .gitmodules --list") from None
    for section in config.sections():
        if section[0].lower() != b"submodule" or len(section) < 2:
            continue
        name = section[1]
        _check_name(name)
        for key, value in config.items(section):
            reason = _refusal(key.lower(), value)
            if reason:
                raise UnsafeSubmoduleError(f"its .gitmodules has {reason}, for submodule {_shown(name)}")


def check_entry(mode: int, name: bytes) -> bool:
    """Tell whether a tree's entry is a `.gitmodules` file to anybody. Raises UnsafeSubmoduleError for a link."""
    if name.lower() != FILE:
        return False
    if mode == 0o120000:
        raise UnsafeSubmoduleError("its .gitmodules is a symbolic link")
    return mode in (0o100644, 0o100755, 0o100664)


def check_versions(quarantine: Quarantine, versions: Iterable[bytes]) -> None:
    """Take those objects, new or here already, as `.gitmodules` files. Raises UnsafeSubmoduleError."""
    left = MAX_TOTAL_BYTES
    with quarantine.objects() as folders:
        for oid in versions:
            found = next(filter(None, (stored.read(oid, MAX_BYTES) for stored in folders)), None)
            if found is None:
                raise UnsafeSubmoduleError("its .gitmodules is larger than 1 MiB")
            left -= len(found.content)
            if left < 0:
                raise UnsafeSubmoduleError("its history has more than 16 MiB of versions of .gitmodules")
            check(found.content)


class Search:
    """A search of a push's new history for such files, which goes on while other things are looked at.

    `tips` are the push's new objects. With C git, it is two programs of its own; without, every object has been looked
    at when it came. Objects that are still in memory are plain, and so no such file.
    """

    def __init__(self, repository: Path, quarantine: Quarantine, tips: Sequence[str]) -> None:
        self._repository = repository
        self._quarantine = quarantine
        self._tips = sorted(set(tips))
        self._listing: _Listing | None = None

    def __enter__(self) -> Self:
        if self._tips and not self._quarantine.empty and git_program.installed():
            self._listing = _Listing(self._repository, self._quarantine, self._tips)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listing is not None:
            self._listing.end()

    def unsafe(self, whole: Collection[str]) -> dict[str, str]:
        """Return those of the tips in `whole`, which lead to nothing that is missing, that are refused, and why."""
        if self._listing is None or not whole or (reason := self._listing.refusal()) is None:
            return {}
        if len(whole) > MAX_SEARCHES:
            return dict.fromkeys(whole, reason)
        reasons = {tip: self._reason(tip) for tip in sorted(whole)}
        return {tip: reason for tip, reason in reasons.items() if reason is not None}

    def _reason(self, tip: str) -> str | None:
        listing = _Listing(self._repository, self._quarantine, [tip])
        try:
            return listing.refusal()
        finally:
            listing.end()


class _Listing:
    """Every version of the file in the new history of `tips`, listed by one program from what another finds."""

    def __init__(self, repository: Path, quarantine: Quarantine, tips: Sequence[str]) -> None:
        self._quarantine = quarantine
        commits = self._start(git_program.commits_that_change(repository, PATHS), subprocess.PIPE)
        # Those that it has looked at stay in its memory, however long their messages are.
        words = git_program.limited(git_program.versions_in(repository, PATHS), MAX_LISTING_BYTES)
        with cast(IO[bytes], commits.stdout) as found:
            versions = self._start(words, found)
        self._programs = (commits, versions)
        # It reads all of its input before it does anything else.
        with suppress(BrokenPipeError), cast(IO[bytes], commits.stdin) as stdin:
            stdin.write("".join(f"{tip}\n" for tip in tips).encode())

    def refusal(self) -> str | None:
        """Wait for what is listed, and return why that is refused."""
        listed = cast(IO[bytes], self._programs[1].stdout).read()
        if any(program.wait() != 0 for program in self._programs):
            return "its history cannot be searched for .gitmodules"
        try:
            versions = {oid for mode, oid in _ENTRY.findall(listed) if check_entry(int(mode, 8), FILE)}
            check_versions(self._quarantine, versions)
        except UnsafeSubmoduleError as error:
            return str(error)
        return None

    def end(self) -> None:
        """Stop it, if it still goes on."""
        for program in self._programs:
            program.kill()
            program.wait()
        cast(IO[bytes], self._programs[1].stdout).close()

    def _start(self, words: Sequence[str], source: int | IO[bytes]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            words,
            env=git_program.environment(self._quarantine.environment),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        # What a hostile history makes of comparing each merge with each parent has an end.
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
        return process


def _check_name(name: bytes) -> None:
    # The name is that of a folder in .git/modules.
    if not name or b".." in re.split(rb"[/\\]", name):
        raise UnsafeSubmoduleError(f"its .gitmodules names a submodule {_shown(name)}")


def _refusal(key: bytes, value: bytes) -> str | None:
    """Return what is wrong with one setting."""
    if key == b"path" and not _is_inside(value):
        return f"a path that does not lie in the repository ({_shown(value)})"
    if key == b"url" and not _is_harmless(value):
        return f"an address that Git refuses ({_shown(value)})"
    if key == b"update" and value.startswith(b"!"):
        return "a command for its update"
    return None


def _is_inside(path: bytes) -> bool:
    """Tell whether a path is one that a checkout may write to, on Windows as well."""
    if path.startswith(b"-") or b"\n" in path or b"\0" in path or _DRIVE.match(path):
        return False
    # An empty part at the beginning is an absolute path; one at the end is how people write folders.
    parts = re.split(rb"[/\\]", path.rstrip(b"/"))
    return not any(part.lower() in (b"", b"..", b".git") for part in parts)


def _is_harmless(url: bytes) -> bool:
    """Tell whether Git takes a submodule's address (submodule-config.c, check_submodule_url)."""
    if url.startswith(b"-") or b"\n" in unquote_to_bytes(url) or _UP_AND_OUT.match(url):
        return False
    web = _WEB.match(url)
    return web is None or web[1].rpartition(b"@")[2].partition(b":")[0] != b""


def _shown(text: bytes) -> str:
    """Return what a stranger wrote in a form that a terminal can bear."""
    return repr(text[:80].decode("utf-8", "replace"))
