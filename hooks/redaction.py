"""Takes secrets out of text on its way into a log, however the text is cut into chunks."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

from store.secret import SHOWN, Secret

CERTAIN_LENGTH = 8
"""From this many characters on, a value is redacted whatever its name is."""

NAMED_LENGTH = 4
"""From this many on, if its variable's name says that it is a secret. Shorter ones stand in too many innocent words."""

_TELLING = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|PWD", re.IGNORECASE)


def _forms(value: str) -> Iterator[str]:
    """Yield the ways in which a value may stand in a text: as it is, quoted, and encoded."""
    yield value
    yield quote(value, safe="")
    yield quote(value)
    yield quote_plus(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield shlex.quote(value)[1:-1]
    raw = value.encode()
    for before in range(3):
        # Base64 of a longer text that contains the value: three alignments, less the characters that its neighbours
        # colour.
        start = -(-before * 4 // 3)
        end = (before + len(raw)) * 4 // 3
        encoded = base64.b64encode(b"\0" * before + raw).decode()[start:end]
        yield encoded
        yield encoded.translate(str.maketrans("+/", "-_"))
    # A builder or an app prints line by line.
    yield from (line.strip() for line in value.splitlines())


def patterns(config: Iterable[Mapping[str, Secret]]) -> list[str]:
    """Return what must not be seen, longest first, of all the values of some configs."""
    found: set[str] = set()
    for values in config:
        for name, secret in values.items():
            least = NAMED_LENGTH if _TELLING.search(name) else CERTAIN_LENGTH
            if len(secret.reveal()) >= least:
                found.update(form for form in _forms(secret.reveal()) if len(form) >= least)
    return sorted(found, key=len, reverse=True)


class Redactor:
    """Replaces secrets in a stream of text.

    A secret may arrive in pieces, so an end of the text that could be the beginning of one is held back until more
    comes.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = list(secrets)
        self._pattern = re.compile("|".join(map(re.escape, self._secrets))) if self._secrets else None
        self._longest = max(map(len, self._secrets), default=0)
        self._firsts = {secret[0] for secret in self._secrets}
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
        return "".join([*shown, text[position:held_from]])

    def flush(self) -> str:
        """Return what was held back; the stream has ended."""
        held, self._held = self._held, ""
        return self._pattern.sub(SHOWN, held) if self._pattern else held

    def _beginning(self, text: str) -> int:
        """Return where the longest end of `text` starts that is a proper beginning of a secret."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[start] in self._firsts:
                end = text[start:]
                if any(len(secret) > len(end) and secret.startswith(end) for secret in self._secrets):
                    return start
        return len(text)
