"""Build stages, and which images a Dockerfile takes from outside.

A name in FROM or `--from=` is a stage of the same file, or `scratch`, or an image of some registry. Every image of the
last kind is found here, so that its registry can be asked, and is replaced by what was found before the engine sees the
file (`pinned`): what was asked for is what gets built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from builder import dockerfile, reference, substitution
from builder.dockerfile import Dockerfile, DockerfileError, Instruction, mount_fields
from builder.reference import Reference

SCRATCH = "scratch"
GIT_COMMIT = "GIT_COMMIT"
"""The build argument that gets the commit's id, where a Dockerfile declares it."""

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(\"[^\"'\\`]*\"|'[^\"'\\`]*'|[^ \t\"'\\`]*))?(?:[ \t]+|\Z)")
_PLATFORM = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+){0,2}")
_OWN_PLATFORM = re.compile(r"\$(?:\{(?:BUILD|TARGET)PLATFORM\}|(?:BUILD|TARGET)PLATFORM)")
_BY_BUILDKIT = re.compile(r"(?:BUILD|TARGET)(?:PLATFORM|OS|ARCH|VARIANT|OSVERSION|STAGE)")
"""Arguments that BuildKit sets by itself and the classic builder does not, so that their value is not certain."""


@dataclass(frozen=True)
class ImageUse:
    """One place where a Dockerfile takes something from an image outside."""

    line: int
    reference: Reference
    platform: str | None
    """As `--platform=` has it; None is the engine's own."""
    stages: tuple[str, ...] | None
    """Of a FROM: names of the stages before it, "" for one without a name. What the image's triggers may copy from."""


@dataclass
class Stages:
    """The stages of a Dockerfile, and what they are made from. Keys are positions of instructions."""

    names: list[str] = field(default_factory=list)
    """In order and in lower case, "" for a stage without a name."""
    bases: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    """Image and platform of every FROM, variables replaced."""
    uses: dict[int, ImageUse] = field(default_factory=dict)
    """Every use of an image from outside."""


def read(file: Dockerfile, commit: str) -> Stages:
    """Return the stages of a Dockerfile; `commit` is the value of `GIT_COMMIT`.

    Raises DockerfileError where a name is not certain, and for stages that do not fit together.
    """
    stages, variables, all_names = Stages(), dict[str, str](), _all_stage_names(file)
    for position, instruction in enumerate(file.instructions):
        if instruction.keyword == "from":
            _read_from(stages, position, instruction, variables)
        elif stages.names:
            _read_sources(stages, position, instruction, all_names)
        elif instruction.keyword == "arg":
            _read_argument(variables, instruction, commit)
        else:
            raise DockerfileError(instruction.line, "it stands before the first FROM, where only ARG may stand")
    if not stages.names:
        raise DockerfileError(file.instructions[-1].line, "there is no FROM")
    return stages


def check_trigger(trigger: str, use: ImageUse) -> None:
    """Refuse an ONBUILD trigger of a base image that would take files from an image which nobody asked for.

    Raises DockerfileError naming the FROM.
    """
    instruction = dockerfile.parse_trigger(trigger, use.line)
    if mounts := _own_mounts(instruction):
        raise DockerfileError(
            use.line,
            f"an ONBUILD trigger of {use.reference} has {mounts[0]}, which only a Dockerfile's own RUN can have",
        )
    for source in _sources(instruction):
        if not _is_stage(source, use.stages or ()):
            raise DockerfileError(
                use.line,
                f"an ONBUILD trigger of {use.reference} takes files from '{source}', which is no stage of this file",
            )


def pinned(
    file: Dockerfile,
    stages: Stages,
    pin: Callable[[ImageUse], str],
    flags_of_run: Callable[[Instruction], Sequence[str]] = lambda run: run.flags,
    labels: Mapping[str, str] | None = None,
) -> bytes:
    """Write the Dockerfile with each image from outside replaced by what `pin` names it.

    `flags_of_run` may give a RUN other options than it is written with. With `labels`, whatever comes after a FROM
    among `labelled` is one line, and one instruction, further down.
    """
    label = " ".join(f"{json.dumps(key)}={json.dumps(value)}" for key, value in (labels or {}).items())
    texts = []
    for position, instruction in enumerate(file.instructions):
        use = stages.uses.get(position)
        if instruction.keyword == "from":
            image, platform = stages.bases[position]
            words = ["FROM", f"--platform={platform}" if platform else "", pin(use) if use else image]
            text = " ".join([word for word in words if word] + instruction.arguments.split()[1:])
            texts.append(f"{text}\nLABEL {label}" if label and position in labelled(stages) else text)
        elif use:
            flags = (f"--from={pin(use)}" if flag.startswith("--from=") else flag for flag in instruction.flags)
            texts.append(" ".join([instruction.keyword.upper(), *flags, instruction.arguments]))
        elif instruction.keyword == "run" and (other := tuple(flags_of_run(instruction))) != instruction.flags:
            texts.append(" ".join(["RUN", *other, instruction.arguments]))
        else:
            texts.append(instruction.text)
    return dockerfile.render(file, texts)


def labelled(stages: Stages) -> list[int]:
    """Return the positions of the FROMs below which `pinned` puts labels: those that no stage of the file is below."""
    names: list[str] = []
    found = []
    for (position, (image, _)), name in zip(stages.bases.items(), stages.names, strict=True):
        if not _is_stage_name(image, names):
            found.append(position)
        names.append(name)
    return found


def _read_from(stages: Stages, position: int, instruction: Instruction, variables: Mapping[str, str]) -> None:
    line, words = instruction.line, instruction.arguments.split()
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not words[2].isascii() or not _STAGE_NAME.fullmatch(name) or name == SCRATCH:
            raise DockerfileError(line, f"'{words[2]}' cannot name a stage")
        if name in stages.names:
            raise DockerfileError(line, f"the stage name {name} is used twice")
    elif len(words) != 1:
        raise DockerfileError(line, "FROM is followed by an image, or by an image, AS and a stage name")
    for flag in instruction.flags:
        if not flag.startswith("--platform="):
            raise DockerfileError(line, f"FROM has no option {flag}")
    image, platform = _expanded(words[0], variables, line), _platform(instruction, variables)
    if image != SCRATCH and not _is_stage_name(image, stages.names):
        stages.uses[position] = ImageUse(line, _reference(image, line), platform, tuple(stages.names))
    stages.bases[position] = image, platform
    stages.names.append(name)


def _platform(instruction: Instruction, variables: Mapping[str, str]) -> str | None:
    written = instruction.flag("platform")
    if written is None or _OWN_PLATFORM.fullmatch(written):
        return None
    platform = _expanded(written, variables, instruction.line)
    if not _PLATFORM.fullmatch(platform):
        raise DockerfileError(instruction.line, f"'{platform[:60]}' is no platform; an example is linux/amd64")
    return platform


def _read_argument(variables: dict[str, str], instruction: Instruction, commit: str) -> None:
    at, text = 0, instruction.arguments
    while at < len(text):
        word = _ARGUMENT.match(text, at)
        if not word:
            raise DockerfileError(
                instruction.line, 'before the first FROM, ARG is read only as NAME=value or NAME="value"'
            )
        at, name, value = word.end(), word[1], word[2]
        if _BY_BUILDKIT.fullmatch(name):
            raise DockerfileError(instruction.line, f"{name} is set by some builders themselves; choose another name")
        if name == GIT_COMMIT:
            variables[name] = commit
        elif value is None:
            variables.pop(name, None)
        elif value.startswith("'"):
            variables[name] = value.strip("'")
        else:
            try:
                variables[name] = substitution.expand(value.strip('"'), variables)
            except substitution.UncertainWordError:
                # An error only if a FROM needs it: many such arguments are for later instructions.
                variables.pop(name, None)


def _read_sources(stages: Stages, position: int, instruction: Instruction, all_names: set[str]) -> None:
    line, earlier = instruction.line, stages.names[:-1]
    if instruction.trigger and (mounts := _own_mounts(instruction.trigger)):
        raise DockerfileError(line, f"ONBUILD with {mounts[0]} is not supported; mount it in the RUN that needs it")
    for source in _sources(instruction.trigger or instruction):
        if "$" in source:
            raise DockerfileError(
                line, f"from={source} cannot have a variable; name a stage instead, FROM {source} AS name"
            )
        if source.isascii() and source.isdigit():
            # In ONBUILD it is a stage of the Dockerfile that the trigger will run in.
            if instruction.trigger is None and int(source) >= len(earlier):
                raise DockerfileError(line, f"there is no stage {source} before this one")
        elif _is_stage_name(source, earlier):
            pass
        elif source.lower() in all_names or source.lower() == SCRATCH:
            raise DockerfileError(line, f"'{source}' is no stage that ends before this one")
        elif instruction.trigger or instruction.keyword == "run":
            raise DockerfileError(line, f"from={source} is an image; give it a stage of its own, FROM {source} AS name")
        else:
            stages.uses[position] = ImageUse(line, _reference(source, line), None, None)


def _own_mounts(instruction: Instruction) -> list[str]:
    """Return the options that mount what belongs to one app: a step that runs in another app's build must not."""
    types = {flag: (mount_fields(flag) or {}).get("type", "").lower() for flag in instruction.flags}
    return [flag for flag, kind in types.items() if kind in ("cache", "secret")]


def _sources(instruction: Instruction) -> list[str]:
    """Return what an instruction's options name with `from=`. Keys of mounts are in any case."""
    names = []
    for flag in instruction.flags:
        key, _, value = flag.partition("=")
        if instruction.keyword in ("copy", "add") and key == "--from":
            names.append(value)
        elif instruction.keyword == "run" and key == "--mount":
            pairs = (pair.partition("=") for pair in value.split(","))
            names += [source for name, _, source in pairs if name.strip().lower() == "from"]
    if instruction.keyword != "run" and len(names) > 1:
        raise DockerfileError(instruction.line, "from= stands twice")
    return names


def _is_stage_name(name: str, stages: Sequence[str]) -> bool:
    """Tell whether the builders take `name` for one of these stages: names are compared in lower case."""
    return bool(name) and name.lower() in stages


def _is_stage(source: str, stages: Sequence[str]) -> bool:
    if source.isascii() and source.isdigit():
        return int(source) < len(stages)
    return _is_stage_name(source, stages)


def _all_stage_names(file: Dockerfile) -> set[str]:
    froms = (each.arguments.split() for each in file.instructions if each.keyword == "from")
    return {words[2].lower() for words in froms if len(words) == 3}


def _expanded(word: str, variables: Mapping[str, str], line: int) -> str:
    try:
        return substitution.expand(word, variables)
    except substitution.UncertainWordError as error:
        raise DockerfileError(line, f"'{word[:200]}' cannot be resolved, since {error}") from None


def _reference(text: str, line: int) -> Reference:
    try:
        return reference.parse(text)
    except reference.MalformedReferenceError as error:
        raise DockerfileError(line, str(error)) from None
