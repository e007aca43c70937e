"""Shell-like substitution in a Dockerfile's FROM and in the ARGs before it.

The builders' own rules are in BuildKit's frontend/dockerfile/shell/lex.go. What the builders' versions treat alike is
done here, everything else is refused: quotes and escapes inside a word, `?`, `#`, `%` and `/` modifiers, special
parameters, and a variable that has no value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[^${}'\"\\`]+")


class UncertainWordError(ValueError):
    """A word whose value is not certain; the message says why, as the end of a sentence."""


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Return `word` with `$X`, `${X}`, `${X:-other}` and `${X:+other}` replaced.

    Raises UncertainWordError where the builders would not agree, or where a variable has no value.
    """
    text, end = _until(word, 0, variables, closing=False)
    if end != len(word):
        raise UncertainWordError(f"'{word[end]}' stands in it")
    return text


def _until(word: str, at: int, variables: Mapping[str, str], *, closing: bool) -> tuple[str, int]:
    """Expand from `at` up to the end of the word, or up to the brace that closes a modifier."""
    parts: list[str] = []
    while at < len(word):
        if word[at] == "}" and closing:
            break
        if word[at] == "$":
            part, at = _variable(word, at + 1, variables)
        elif plain := _PLAIN.match(word, at):
            part, at = plain[0], plain.end()
        else:
            raise UncertainWordError(f"{word[at]} inside a word is not read here")
        parts.append(part)
    return "".join(parts), at


def _variable(word: str, at: int, variables: Mapping[str, str]) -> tuple[str, int]:
    braces = word.startswith("{", at)
    name = _NAME.match(word, at + braces)
    if not name:
        raise UncertainWordError("'$' is not followed by a variable's name")
    value, at = variables.get(name[0]), name.end()
    if braces and word.startswith((":-", ":+"), at):
        other, end = _until(word, at + 2, variables, closing=True)
        value = (value or other) if word[at + 1] == "-" else (other if value else "")
        at = end
    if braces:
        if not word.startswith("}", at):
            raise UncertainWordError(
                f"of '${{{name[0]}' only the forms ${{X}}, ${{X:-other}} and ${{X:+other}} are read here"
            )
        at += 1
    if value is None:
        raise UncertainWordError(f"{name[0]} has no value; give it one with ARG {name[0]}=… before the first FROM")
    return value, at
