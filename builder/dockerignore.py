"""Which paths `.dockerignore` leaves out of a build context.

The rules are those of github.com/moby/patternmatcher, which the docker command and the engine use: Go's filepath.Match
with `**`, `!` for exceptions, the last pattern that matches decides, and a pattern that matches a folder matches
everything in it. (The SDK's own matcher is not used: `**/name` does not reach into folders there.)
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from store.errors import SlipwayError

NAME = ".dockerignore"


class DockerignoreError(SlipwayError):
    """A pattern that cannot be read."""


@dataclass(frozen=True)
class Verdict:
    """What the rules say about one path."""

    ignored: bool
    matched: tuple[bool, ...]
    """By pattern, whether it matches the path or a folder above it."""


class Dockerignore:
    """The patterns of one `.dockerignore`."""

    def __init__(self, patterns: Sequence[tuple[bool, re.Pattern[str]]] = ()) -> None:
        self._patterns = list(patterns)
        self.has_exceptions = any(excepts for excepts, _ in patterns)
        """Whether a path below an ignored folder may be in the context all the same."""
        self.root = Verdict(ignored=False, matched=(False,) * len(self._patterns))
        """The verdict on the context itself, which no pattern matches."""

    def judge(self, path: str, folder: Verdict) -> Verdict:
        """Return the verdict on a path, relative to the context and separated by `/`, from that on its folder."""
        if not self._patterns:
            return self.root
        matched = tuple(
            above or bool(pattern.fullmatch(path))
            for above, (_, pattern) in zip(folder.matched, self._patterns, strict=True)
        )
        ignored = False
        for matches, (excepts, _) in zip(matched, self._patterns, strict=True):
            if matches:
                ignored = not excepts
        return Verdict(ignored, matched)


def parse(content: bytes) -> Dockerignore:
    """Read a `.dockerignore` file. Raises DockerignoreError naming the line."""
    patterns = []
    for number, line in enumerate(content.decode("utf-8-sig", "surrogateescape").split("\n"), 1):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        excepts = pattern.startswith("!")
        cleaned = pattern.removeprefix("!").strip()
        if excepts and not cleaned:
            raise DockerignoreError(f".dockerignore line {number}: '!' needs a pattern after it")
        patterns.append((excepts, _compiled(posixpath.normpath(cleaned).lstrip("/"), number)))
    return Dockerignore(patterns)


def _compiled(pattern: str, number: int) -> re.Pattern[str]:
    expression, at = "", 0
    while at < len(pattern):
        if found := re.compile(r"\*\*/?").match(pattern, at):
            whole_rest = found.end() == len(pattern)
            expression += ".*" if whole_rest else "(?:.*/)?"
            at = found.end()
        elif pattern[at] == "*":
            expression, at = expression + "[^/]*", at + 1
        elif pattern[at] == "?":
            expression, at = expression + "[^/]", at + 1
        elif found := re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]").match(pattern, at):
            expression, at = expression + f"[{found[1]}{found[2].replace('[', chr(92) + '[')}]", found.end()
        elif pattern[at] in "[\\" and (pattern[at] == "[" or at + 1 == len(pattern)):
            raise DockerignoreError(f".dockerignore line {number}: the pattern '{pattern}' has an unfinished [ or \\")
        else:
            at += pattern[at] == "\\"
            expression, at = expression + re.escape(pattern[at]), at + 1
    try:
        return re.compile(expression, re.DOTALL)
    except re.error:
        raise DockerignoreError(f".dockerignore line {number}: the pattern '{pattern}' cannot be read") from None
