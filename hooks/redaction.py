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

START = NAMED_LENGTH
"""Characters by which it is looked up which secrets can begin at some place of a text; none has fewer."""
DENSE_LENGTH = 4096
"""Characters of base64 of which every quantum begins a piece that is known. Of longer ones it is one in each line."""
LINE = 48
"""Characters from piece to piece there, so that lines of 60 and more have one."""

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
        for at in range(-start % 4, len(encoded) - FRAGMENT + 1, 4 if len(encoded) <= DENSE_LENGTH else LINE):
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
        self._fragments = hidden.fragments
        # Not one regular expression of all of them: compiling it takes minutes where values are long.
        self._by_start: dict[str, list[str]] = {}
        for word in hidden.words:
            self._by_start.setdefault(word[:START], []).append(word)
        self._shorter_starts = {start[:length] for start in self._by_start for length in range(1, START)}
        self._held = ""

    def feed(self, text: str) -> str:
        """Take in some text, and return what can be shown by now."""
        return self._shown(text, to_the_end=False)

    def flush(self) -> str:
        """Return what was held back; the stream has ended."""
        return self._shown("", to_the_end=True)

    def _shown(self, text: str, *, to_the_end: bool) -> str:
        if not self._by_start:
            return text
        text = self._held + text
        shown = []
        position = at = 0
        while at < len(text):
            words = self._by_start.get(text[at : at + START])
            left = len(text) - at
            if words is None:
                if not to_the_end and left < START and text[at:] in self._shorter_starts:
                    break
                at += 1
                continue
            if not to_the_end and any(len(word) > left and word.startswith(text[at:]) for word in words):
                break  # it may be the beginning of this one, even where a shorter one is complete
            found = next((word for word in words if text.startswith(word, at)), None)
            if found is None:
                at += 1
                continue
            shown += [text[position:at], SHOWN]
            position = at = at + len(found)
        self._held = text[at:]
        return self._without_fragments("".join([*shown, text[position:at]]))

    def _without_fragments(self, text: str) -> str:
        if not self._fragments:
            return text
        return _RUN.sub(lambda run: SHOWN if self._has_fragment(run[0].translate(_TO_STANDARD)) else run[0], text)

    def _has_fragment(self, run: str) -> bool:
        return not self._fragments.isdisjoint([run[at : at + FRAGMENT] for at in range(len(run) - FRAGMENT + 1)])
