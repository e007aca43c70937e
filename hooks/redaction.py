"""Takes secrets out of text on its way into a log, however the text is cut into chunks."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

from store.secret import SHOWN, Secret

CERTAIN_LENGTH = 8
"""From this many characters on, a value is redacted whatever its name is."""

NAMED_LENGTH = 4
"""From this many on, if its variable's name says that it is a secret. Shorter ones stand in too many innocent words."""

FRAGMENT = 12
"""Characters of a secret's base64 by which a piece of it is known: programs wrap long base64, at 64 or 76 columns, and
a builder or a log may put something before each line."""

START = 4
"""Characters of a text that are compared with the beginnings of all secrets at once; the rest rarely needs to be."""

_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{{FRAGMENT},}}={{0,2}}")
_TO_STANDARD = str.maketrans("-_", "+/")
_TO_URL_SAFE = str.maketrans("+/", "-_")
_PERCENT = re.compile(r"%[0-9A-F]{2}")

_URI_COMPONENT, _URI = "!'()*", "!'()*;,/?:@&=+$#"
"""What encodeURIComponent and encodeURI leave as it is (ECMA-262, 19.2.6), beside what Python does."""

_TELLING = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|PWD", re.IGNORECASE)


@dataclass(frozen=True)
class Patterns:
    """What must not be seen."""

    words: tuple[str, ...]
    """Longest first."""
    fragments: frozenset[str]
    """Pieces of base64, in the standard alphabet. Whatever has one of these in it is not shown."""


NOTHING = Patterns((), frozenset())


def _base64_of(value: str) -> Iterator[tuple[int, str]]:
    """Yield what there is of a value in the base64 of a longer text, and at which character of a quantum it begins.

    There are three alignments; the characters that its neighbours colour are left out.
    """
    raw = value.encode()
    for before in range(3):
        start = -(-before * 4 // 3)
        end = (before + len(raw)) * 4 // 3
        yield start % 4, base64.b64encode(b"\0" * before + raw).decode()[start:end]


def _forms(value: str) -> Iterator[str]:
    """Yield the ways in which a value may stand in a text: as it is, quoted, and encoded."""
    yield value
    for encoded in (
        *(quote(value, safe=safe) for safe in ("", "/", _URI_COMPONENT, _URI)),
        quote_plus(value),
        quote_plus(value, safe="*").replace("~", "%7E"),  # as browsers encode forms
    ):
        yield encoded
        yield _PERCENT.sub(lambda escaped: escaped[0].lower(), encoded)
    for quoted in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        yield quoted
        yield quoted.replace("/", "\\/")  # as PHP writes it
        yield quoted.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")  # as Go does
    yield shlex.quote(value)[1:-1]
    yield value.replace("'", "'\\''")  # as shells show what they run (set -x)
    for _, encoded in _base64_of(value):
        yield encoded
        yield encoded.translate(_TO_URL_SAFE)
    # A builder or an app prints line by line.
    yield from (line.strip() for line in value.splitlines())


def _fragments(value: str) -> Iterator[str]:
    """Yield pieces, one at each quantum: who sees three characters more of the base64 than a piece has sees one."""
    for start, encoded in _base64_of(value):
        for at in range(-start % 4, len(encoded) - FRAGMENT + 1, 4):
            yield encoded[at : at + FRAGMENT]


def patterns(config: Iterable[Mapping[str, Secret]]) -> Patterns:
    """Return what must not be seen of all the values of some configs."""
    found: set[str] = set()
    fragments: set[str] = set()
    for values in config:
        for name, secret in values.items():
            least = NAMED_LENGTH if _TELLING.search(name) else CERTAIN_LENGTH
            if len(secret.reveal()) >= least:
                found.update(form for form in _forms(secret.reveal()) if len(form) >= least)
                fragments.update(_fragments(secret.reveal()))
    return Patterns(tuple(sorted(found, key=len, reverse=True)), frozenset(fragments))


class Redactor:
    """Replaces secrets in a stream of text.

    A secret may arrive in pieces, so an end of the text that could be the beginning of one is held back until more
    comes.
    """

    def __init__(self, hidden: Patterns) -> None:
        self._secrets = hidden.words
        self._fragments = hidden.fragments
        self._pattern = re.compile("|".join(map(re.escape, self._secrets))) if self._secrets else None
        self._longest = max(map(len, self._secrets), default=0)
        self._starts = {secret[:length] for secret in self._secrets for length in range(1, START + 1)}
        self._held = ""

    def feed(self, text: str) -> str:
        """Take in some text, and return what can be shown by now."""
        if self._pattern is None:
            return text
        text = self._held + text
        shown, position = [], 0
        held_from = self._beginning(text)
        for match in self._pattern.finditer(text):
            if match.start() >= held_from:
                break  # it may be the beginning of a longer one
            shown += [text[position : match.start()], SHOWN]
            position = match.end()
        held_from = max(held_from, position)
        self._held = text[held_from:]
        return self._without_fragments("".join([*shown, text[position:held_from]]))

    def flush(self) -> str:
        """Return what was held back; the stream has ended."""
        held, self._held = self._held, ""
        return self._without_fragments(self._pattern.sub(SHOWN, held)) if self._pattern else held

    def _without_fragments(self, text: str) -> str:
        if not self._fragments:
            return text
        return _RUN.sub(lambda run: SHOWN if self._has_fragment(run[0].translate(_TO_STANDARD)) else run[0], text)

    def _has_fragment(self, run: str) -> bool:
        return not self._fragments.isdisjoint([run[at : at + FRAGMENT] for at in range(len(run) - FRAGMENT + 1)])

    def _beginning(self, text: str) -> int:
        """Return where the longest end of `text` starts that is a proper beginning of a secret."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[start : start + START] in self._starts:
                end = text[start:]
                if any(len(secret) > len(end) and secret.startswith(end) for secret in self._secrets):
                    return start
        return len(text)
