r"""Reading dotenv lines, so that secrets can come by standard input instead of as arguments.

The form is the common ground of dotenv files and shells: `KEY=value`, an optional `export`, comments, single quotes
(literal) and double quotes (with \n, \t, \", \\, \$ as escapes), either of which may span lines.
"""

from __future__ import annotations

import re

from store.config import Config, check
from store.errors import UsageError
from store.secret import Secret

_START = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[^\s=#'\"]+)[ \t]*=[ \t]*")
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_SINGLE = re.compile(r"'(?P<text>[^']*)'")
_DOUBLE = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r"(?P<text>[^\r\n]*?)(?:[ \t]+#[^\n]*)?[ \t]*(?=\r?\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\n": ""}


def parse(text: str) -> Config:
    """Return the variables of `text`, the last one winning where a name comes twice.

    Raises UsageError naming the line, without repeating what stands there.
    """
    changes: dict[str, Secret] = {}
    position = 0
    while position < len(text):
        if blank := _BLANK.match(text, position):
            position = max(blank.end(), position + 1)
            continue
        line = text.count("\n", 0, position) + 1
        start = _START.match(text, position)
        if not start:
            raise UsageError(f"line {line} of the input is not of the form KEY=value")
        if single := _SINGLE.match(text, start.end()):
            value, position = single["text"], single.end()
        elif double := _DOUBLE.match(text, start.end()):
            value = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), double["text"])
            position = double.end()
        elif text[start.end() : start.end() + 1] in ("'", '"'):
            raise UsageError(f"the quote that line {line} of the input opens is never closed")
        else:
            plain = _PLAIN.match(text, start.end())
            if not plain:
                raise UsageError(
                    f"line {line} of the input has a carriage return that ends no line; put the value into quotes"
                )
            value, position = plain["text"], plain.end()
        rest = _BLANK.match(text, position)
        if not rest:
            raise UsageError(f"line {line} of the input goes on after its closing quote")
        position = max(rest.end(), position)
        changes[start["name"]] = Secret(value)
    check(changes)
    return changes
