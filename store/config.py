"""An app's config: names, values, and what makes either invalid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from store.errors import UsageError
from store.secret import Secret

Config = Mapping[str, Secret]
"""Variables by name. Every value counts as a secret."""

VALUE_LIMIT = 65_536
"""Longest value in characters, as in Aptible's contract."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def check(changes: Config) -> None:
    """Raise UsageError for a name that no shell could set, or a value that is too long or holds a NUL."""
    for name, value in changes.items():
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name[:80]!r} is not a config variable's name; use letters, digits and _, not starting with a digit"
            )
        text = value.reveal()
        if len(text) > VALUE_LIMIT:
            raise UsageError(
                f"the value of {name} has {len(text):,} characters; at most {VALUE_LIMIT:,} are kept, "
                "so store it elsewhere and configure its address"
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            # Without the error that tells the value.
            raise UsageError(f"the value of {name} contains half of a surrogate pair, which is no character") from None
        if "\0" in text:
            raise UsageError(f"the value of {name} contains a NUL character, which no environment can hold")


def parse_pairs(words: Iterable[str]) -> Config:
    """Read `KEY=VALUE` words; raises UsageError for a word that is none, without repeating its value."""
    changes = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{name[:80]!r} is not of the form KEY=VALUE")
        changes[name] = Secret(value)
    check(changes)
    return changes


def merge(config: Config, changes: Config) -> Config:
    """Return `config` with `changes` applied; an empty value removes its variable."""
    return {name: value for name, value in {**config, **changes}.items() if value}


def dump(config: Config) -> bytes:
    """Return the form that is sealed: JSON."""
    return json.dumps({name: value.reveal() for name, value in config.items()}).encode()


def load(plain: bytes) -> Config:
    """Read what `dump` wrote."""
    return {name: Secret(value) for name, value in json.loads(plain).items()}
