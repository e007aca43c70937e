"""`.aptible.yml`: the commands to run before and after a release.

Aptible's documentation (".aptible.yml") names the keys. The file is YAML 1.1 as PyYAML reads it, but only its nodes are
looked at, never made into objects: nodes know their line, which a complaint needs, and no tag can ask for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from store.errors import UsageError

BEFORE = ("before_deploy", "before_release")
"""Two names of one hook."""

MAX_TEXT = 65_536
"""Characters of the file; a list of commands needs no more, and every user may push one."""

MAX_COMMANDS = 50
"""Commands of one hook; each is a container of its own."""

_AFTER = tuple(
    f"after_{what}_{outcome}"
    for what in ("deploy", "restart", "configure", "scale")
    for outcome in ("success", "failure")
)


class AptibleYmlError(UsageError):
    """`.aptible.yml` does not say what to run. Nothing was started."""


@dataclass(frozen=True)
class Hooks:
    """What to run around a release, each hook's commands in their order."""

    before_deploy: tuple[str, ...] = ()
    after: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By the hook's name, for example `after_restart_success`."""


def parse(text: str | None) -> Hooks:
    """Return the hooks of a file's text, none where there is no file.

    Raises AptibleYmlError, which names line and key.
    """
    if text is None:
        return Hooks()
    found: dict[str, tuple[str, ...]] = {}
    before: str | None = None
    for key, value in _pairs(_root(text)):
        name = _name(key)
        if name in found or (name in BEFORE and before is not None):
            also = f", which is another name of '{before}'" if name in BEFORE and name != before else ""
            raise _fault(key, f"'{name}' is there a second time{also}; keep one of the two")
        if name in BEFORE:
            before = name
        found[name] = _commands(name, value)
    return Hooks(found.pop(before, ()) if before else (), found)


def _root(text: str) -> yaml.Node | None:
    if len(text) > MAX_TEXT:
        raise AptibleYmlError(f".aptible.yml has more than {MAX_TEXT:,} characters; move its commands to a script")
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1} of .aptible.yml" if mark else ".aptible.yml"
        raise AptibleYmlError(
            f"{where} is not YAML: {error.problem or error.context}; mend it and push again"
        ) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise AptibleYmlError(f"line {line} of .aptible.yml has a character that YAML forbids; remove it") from error
    except RecursionError as error:
        raise AptibleYmlError(".aptible.yml is nested too deeply; a hook is a plain list of commands") from error


def _pairs(root: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    if root is None:  # an empty file, or one of comments only
        return []
    if not isinstance(root, yaml.MappingNode):
        raise _fault(root, f"there has to be a key like '{BEFORE[0]}:' with a list of commands under it")
    return list(root.value)


def _name(key: yaml.Node) -> str:
    name = key.value if isinstance(key, yaml.ScalarNode) else "?"
    if name not in (*BEFORE, *_AFTER):
        raise _fault(key, f"there is no key {name[:40]!r}; there are {', '.join((*BEFORE, *_AFTER))}")
    return name


def _commands(name: str, value: yaml.Node) -> tuple[str, ...]:
    if isinstance(value, yaml.ScalarNode) and not value.value:
        return ()  # "before_deploy:" with nothing after it
    if not isinstance(value, yaml.SequenceNode):
        raise _fault(value, f"'{name}' has to be a list of commands, each on a line that begins with '- '")
    if len(value.value) > MAX_COMMANDS:
        raise _fault(value, f"'{name}' has more than {MAX_COMMANDS} commands; put them into a script")
    for item in value.value:
        if not isinstance(item, yaml.ScalarNode) or not item.value.strip():
            raise _fault(item, f"a command of '{name}' is not one line of text; put it into quotes")
    return tuple(item.value for item in value.value)


def _fault(node: yaml.Node, what: str) -> AptibleYmlError:
    return AptibleYmlError(f"line {node.start_mark.line + 1} of .aptible.yml: {what}")
