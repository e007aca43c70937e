"""A Dockerfile as a list of instructions, read exactly as the builders read it, or refused.

Which images a build may use is decided on what is read here, so a difference to the engine's own parser would be a way
around that decision. Therefore whatever the parsers of the engines' versions treat differently is refused with its line
(their common source is frontend/dockerfile/parser of github.com/moby/buildkit), and `render` writes the instructions
that were read, one a line and at their old line numbers, so that the engine splits them as they were split here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from store.errors import SlipwayError

KEYWORDS = frozenset(
    {
        "add",
        "arg",
        "cmd",
        "copy",
        "entrypoint",
        "env",
        "expose",
        "from",
        "healthcheck",
        "label",
        "maintainer",
        "onbuild",
    }
    | {"run", "shell", "stopsignal", "user", "volume", "workdir"}
)
LONGEST_LINE = 65_000
"""Bytes of one line. The engine's own limit is a little above, 64 KiB with the line's end."""

_DIRECTIVE = re.compile(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*")
_WITH_FLAGS = frozenset({"add", "copy", "from", "run"})
"""Instructions whose `--options` say something about images."""
_TAKING_HEREDOCS = frozenset({"add", "copy", "run"})
_HEREDOC = re.compile(r"(?<!<)<<(?!<)(-?)")
_HEREDOC_NAME = re.compile(r"(['\"]?)([A-Za-z0-9_.-]+)\1(?=[ \t]|\Z)")


class DockerfileError(SlipwayError):
    """A Dockerfile that does not parse, or that cannot be read with certainty."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"Dockerfile line {line}: {why}.")


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continuation lines joined."""

    line: int
    """Where it starts, from 1."""
    keyword: str
    """In lower case."""
    text: str
    """The whole instruction, keyword included."""
    flags: tuple[str, ...] = ()
    """The `--options` between keyword and arguments, of the instructions where they are read."""
    arguments: str = ""
    heredoc: tuple[str, ...] = ()
    """Lines of the here-documents that belong to it, terminators included."""
    trigger: Instruction | None = None
    """What an ONBUILD will run."""

    def flag(self, name: str) -> str | None:
        """Return the value of `--name=value`, None if it is not there."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.partition("=")[0] == f"--{name}"), None)


@dataclass(frozen=True)
class Dockerfile:
    """A parsed Dockerfile."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    syntax: str | None = None
    """The image named by a `# syntax=` line: BuildKit's frontend, without meaning to the classic builder."""

    @property
    def names_config_file(self) -> bool:
        """Whether an instruction names `.aptible.env`, and so asks for it in the context."""
        return any(".aptible.env" in "\n".join((each.text, *each.heredoc)) for each in self.instructions)

    def declares(self, argument: str) -> bool:
        """Tell whether some ARG declares `argument`."""
        declared = re.compile(rf"(?:^|[ \t]){re.escape(argument)}(?:=|[ \t]|\Z)")
        return any(each.keyword == "arg" and declared.search(each.arguments) for each in self.instructions)


def parse(content: bytes) -> Dockerfile:
    """Return the instructions of a Dockerfile.

    Raises DockerfileError.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DockerfileError(content.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    escape, syntax = _directives(lines)
    instructions = tuple(_instructions(lines, escape))
    if not instructions:
        raise DockerfileError(len(lines), "it has no instructions; it needs a FROM at least")
    return Dockerfile(instructions, escape, syntax)


def parse_trigger(text: str, line: int) -> Instruction:
    """Return the instruction of an ONBUILD trigger that an image carries; `line` is the FROM that runs it.

    Raises DockerfileError.
    """
    if "\n" in text or text.lstrip().startswith("#") or text.rstrip().endswith("\\"):
        raise DockerfileError(line, "the image's ONBUILD triggers are not one plain instruction each")
    _check_characters(text, line)
    return _instruction(text, line, "\\", within_onbuild=True)


def mount_fields(flag: str) -> dict[str, str] | None:
    """Return what stands in a `--mount=` option, keys in lower case; None for another option."""
    name, _, value = flag.partition("=")
    if name != "--mount":
        return None
    pairs = (pair.partition("=") for pair in value.split(","))
    return {key.strip().lower(): text for key, _, text in pairs}


def render(dockerfile: Dockerfile, texts: Sequence[str]) -> bytes:
    """Write a Dockerfile again, with `texts` in the place of its instructions' texts."""
    lines = [] if dockerfile.escape == "\\" else [f"# escape={dockerfile.escape}"]
    for instruction, text in zip(dockerfile.instructions, texts, strict=True):
        lines.extend([""] * (instruction.line - 1 - len(lines)))
        lines.append(text)
        lines.extend(instruction.heredoc)
    return "\n".join([*lines, ""]).encode()


def _directives(lines: Sequence[str]) -> tuple[str, str | None]:
    seen: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        directive = _DIRECTIVE.fullmatch(line.strip(" \t"))
        if not directive or directive[1].lower() not in ("syntax", "escape", "check"):
            break
        name, value = directive[1].lower(), directive[2]
        if name in seen:
            raise DockerfileError(number, f"only one '# {name}=' directive can be used")
        if name == "escape":
            if value not in ("\\", "`"):
                raise DockerfileError(number, "the escape character can only be \\ or `")
            if "check" in seen:
                raise DockerfileError(number, "'# escape=' has to stand before '# check='")
        seen[name] = value
    return seen.get("escape", "\\"), seen.get("syntax")


def _instructions(lines: Sequence[str], escape: str) -> Iterator[Instruction]:
    unfolds = re.compile(rf"(^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*\Z")
    numbered = enumerate(lines, 1)
    for start, first in numbered:
        line = _checked(first, start).lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        text, more = unfolds.subn(r"\1", line)
        while more and (following := next(numbered, None)):
            line = _checked(following[1], following[0])
            # Comments and empty lines inside an instruction are passed over, and it goes on after them.
            if line.strip(" \t") and not line.lstrip(" \t").startswith("#"):
                part, more = unfolds.subn(r"\1", line)
                text += part
        text = text.strip(" \t")
        if not text:
            continue
        if len(text.encode()) > LONGEST_LINE:
            raise DockerfileError(start, f"the instruction is longer than {LONGEST_LINE} bytes")
        if unfolds.search(text):
            raise DockerfileError(start, f"the instruction ends with {escape}, and nothing follows")
        instruction = _instruction(text, start, escape)
        yield replace(instruction, heredoc=tuple(_heredoc_lines(instruction, numbered)))


def _heredoc_lines(instruction: Instruction, numbered: Iterator[tuple[int, str]]) -> Iterator[str]:
    for terminator, chomps in _heredocs(instruction):
        for _, content in numbered:
            yield content
            if (content.lstrip("\t") if chomps else content) == terminator:
                break
        else:
            raise DockerfileError(instruction.line, f"the here-document has no closing line {terminator}")


def _checked(line: str, number: int) -> str:
    if len(line.encode()) > LONGEST_LINE:
        raise DockerfileError(number, f"the line is longer than {LONGEST_LINE} bytes")
    if not line.lstrip(" \t").startswith("#"):
        _check_characters(line, number)
    elif any(character in line for character in "\r\0"):
        raise DockerfileError(number, "it has a stray carriage return or NUL character")
    return line


def _check_characters(line: str, number: int) -> None:
    """Refuse blanks other than space and tab where they could separate words: the builders' versions differ there."""
    if any(character in line for character in "\r\v\f\0"):
        raise DockerfileError(number, "it has a control character (carriage return, form feed, vertical tab or NUL)")
    stripped = line.strip(" \t")
    if stripped and (not stripped[0].isprintable() or stripped[0].isspace() or stripped[-1].isspace()):
        raise DockerfileError(number, "it starts or ends with a blank that is neither space nor tab")


def _instruction(text: str, line: int, escape: str, *, within_onbuild: bool = False) -> Instruction:
    word = re.match(r"[^ \t]+", text)
    written = word[0] if word else ""
    keyword = written.lower() if written.isascii() else written
    if keyword not in KEYWORDS:
        raise DockerfileError(line, f"'{written[:40]}' is no Dockerfile instruction")
    arguments = text[len(written) :].strip(" \t")
    if not arguments and keyword not in ("cmd", "entrypoint"):
        raise DockerfileError(line, f"{keyword.upper()} needs an argument")
    if keyword == "onbuild":
        if within_onbuild:
            raise DockerfileError(line, "ONBUILD inside ONBUILD is not allowed")
        trigger = _instruction(arguments, line, escape, within_onbuild=True)
        return Instruction(line, keyword, text, (), arguments, (), trigger)
    if within_onbuild and keyword in ("from", "maintainer"):
        raise DockerfileError(line, f"{keyword.upper()} is not allowed in ONBUILD")
    flags: list[str] = []
    while keyword in _WITH_FLAGS and (flag := re.match(r"(--[^ \t]*)[ \t]*", arguments)):
        arguments = arguments[flag.end() :]
        if flag[1] == "--":
            break
        if not flag[1].isascii() or any(character in flag[1] for character in "'\"\\`"):
            raise DockerfileError(line, f"the option {flag[1][:60]!r} has quotes, escapes or other unusual characters")
        flags.append(flag[1])
    return Instruction(line, keyword, text, tuple(flags), arguments)


def _heredocs(instruction: Instruction) -> list[tuple[str, bool]]:
    """Return terminator and whether leading tabs are dropped, of each here-document that the instruction opens.

    Only a word that starts, unquoted, with `<<` opens one; `$((1<<2))` and `"a <<b"` do not.
    """
    if (instruction.trigger or instruction).keyword not in _TAKING_HEREDOCS:
        return []
    text, found = instruction.text, []
    for opening in _HEREDOC.finditer(text):
        before = text[: opening.start()].rstrip("0123456789")
        if not before.endswith((" ", "\t")):
            continue
        quote = _open_quote(before)
        if quote and _open_quote(text) is None:
            continue
        name = _HEREDOC_NAME.match(text, opening.end())
        if not name or quote or _open_quote(text) or "${" in text:
            raise DockerfileError(
                instruction.line, "what follows << is not certain; write it as <<EOF or <<'EOF', apart"
            )
        found.append((name[2], bool(opening[1])))
    if found and instruction.trigger:
        raise DockerfileError(instruction.line, "here-documents in ONBUILD are not supported")
    return found


def _open_quote(text: str) -> str | None:
    """Return the quotation mark that is still open at the end of `text`, as the shell reads it."""
    quote, escaped = None, False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote is None and character in "'\"":
            quote = character
        elif character == quote:
            quote = None
    return quote
