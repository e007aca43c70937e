"""The engine's classic builder: `POST /build` of the Docker Engine API, one layer for each instruction."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import requests
from docker.errors import APIError, DockerException

from builder import context, metrics, stages
from builder.collection import LAYERS
from builder.dockerfile import Dockerfile, DockerfileError
from builder.engine import IsolatedClient
from builder.limits import CPU_PERIOD, KILLED, Limits
from builder.numbering import Numbering
from builder.output import Lines, one_line, unpainted
from builder.plan import BuildFailedError, Plan, StepFailedError, quoted
from store.errors import SlipwayError

NEWER_FLAGS = {
    "add": ("--link", "--chmod", "--checksum", "--keep-git-dir", "--exclude", "--unpack"),
    "copy": ("--link", "--chmod", "--parents", "--exclude"),
    "run": ("--mount", "--network", "--security", "--device"),
}
"""Options that only BuildKit has."""
ATTEMPTS = 4
"""How often a build is begun. Looking for a layer that it could use again, the engine (image/cache of moby) reads every
layer made from the same one, and fails if one of them, of any build at all, is removed in this moment."""
CONTAINER_END_SECONDS = 10.0
"""How long a cancelled step's container may take to end. The engine kills it at once, and then unmounts it."""
CONTAINER_LOOK_SECONDS = 0.05

_PARSE_ERROR = re.compile(r"dockerfile parse error (?:on )?line ([0-9]+): (.*)", re.IGNORECASE)
_BUILDERS_OWN = re.compile(r"Step [0-9]+/[0-9]+ : | ---> |Removing intermediate container |Successfully ")
"""What the builder writes itself starts a line, even where a program left its last one open."""
_STEP = re.compile(r"Step ([0-9]{1,6})/([0-9]{1,6}) : ")  # a program that prints alike must not make it fail
_LAYER = re.compile(r" ---> ([0-9a-f]{12})\n")
_RUNNING = re.compile(r" ---> Running in ([0-9a-f]{12})\n")
_VANISHED = re.compile(r"unable to find image \"?sha256:[0-9a-f]{64}\"?")
_EXIT_STATUS = re.compile(r"returned a non-zero code: ([0-9]+)\Z")


class _LayerVanishedError(BuildFailedError):
    """A layer that the engine was looking at is gone; nothing is wrong with the build."""


class ClassicBuilder:
    """One run of the classic builder (see builder.plan.Builder)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._started = time.time()
        self._layers: list[str] = []
        self._finished: Plan | None = None
        self._stage = -1
        """Which FROM the build is at, from 0."""
        self._held: set[str] = set()
        """Names that this run has given to layers."""

    def check(self, file: Dockerfile) -> None:
        """Refuse what needs BuildKit, by its line. Raises DockerfileError."""
        for instruction in file.instructions:
            if instruction.heredoc:
                raise DockerfileError(instruction.line, "here-documents (<<) need BuildKit; use a RUN with && instead")
            acting = instruction.trigger or instruction
            for flag in acting.flags:
                name = flag.partition("=")[0]
                if name in NEWER_FLAGS.get(acting.keyword, ()):
                    raise DockerfileError(instruction.line, f"{acting.keyword.upper()} {name} needs BuildKit")

    def build(self, client: IsolatedClient, plan: Plan, say: Callable[[str], None]) -> str:
        """Build and tag an image; see builder.plan.Builder."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._build(client, plan, say)
            except _LayerVanishedError:
                self._stage = -1
                say("The engine has just removed a layer of another build; this one begins again\n")
        return self._build(client, plan, say)

    def _build(self, client: IsolatedClient, plan: Plan, say: Callable[[str], None]) -> str:
        # Named by their ids: a name would be asked of a registry, or moved meanwhile.
        dockerfile = stages.pinned(plan.dockerfile, plan.stages, lambda use: plan.bases[use].id, labels=plan.labels)
        numbering = Numbering.of(plan)
        messages = client.post_build(self._parameters(plan), plan.context.tar(dockerfile))
        lines, error_lines = Lines(say), Lines(say)
        step, image, container, own = 0, "", "", False
        try:
            cached = is_base = False
            for message in messages:
                text = str(message.get("stream", ""))
                if error := message.get("error"):
                    raise self._failure(client, plan, step, container, str(error))
                if begun := _STEP.match(text):
                    step, own, cached = numbering.step(int(begun[1])), numbering.is_label(int(begun[1])), False
                    is_base = text[begun.end() :].lower().startswith("from ")
                    self._stage += is_base
                    total = numbering.step(int(begun[2]))
                    text = f"Step {step}/{total} : {_named(text[begun.end() :], plan)}"
                elif text == " ---> Using cache\n":
                    cached = True
                    if not own:
                        metrics.CACHED.inc()
                elif running := _RUNNING.fullmatch(text):
                    container = running[1]
                elif (layer := _LAYER.fullmatch(text)) and not cached:
                    self._layers.append(layer[1])
                    self._hold(client, plan, layer[1])
                    if not is_base and not own:
                        metrics.RUN.inc()
                if _BUILDERS_OWN.match(text):
                    error_lines.end()
                    lines.end()
                plain = "" if own else unpainted(text)
                # Two streams of a program arrive in turns, so each has its own unfinished line.
                (lines if plain == text or own else error_lines).add(plain)
                image = message.get("aux", {}).get("ID", image)
        except APIError as error:
            raise _failure(plan, 0, str(error.explanation)) from None
        finally:
            error_lines.end()
            lines.end()
        if not image:
            raise BuildFailedError("The engine ended the build without an image and without an error; try again.")
        self._finished = plan
        with suppress(DockerException, requests.RequestException):
            client.remove_image(self._layers_name(plan), noprune=True)  # the last stage has the image's own name now
        return str(image)

    def _layers_name(self, plan: Plan) -> str:
        return f"{plan.tag.rpartition(':')[0]}:{LAYERS}{self._stage}"

    def _hold(self, client: IsolatedClient, plan: Plan, layer: str) -> None:
        """Give a stage's newest layer a name, which takes along those below it, and let go of what had it before.

        So the layers of a build that fails, or whose server is killed, are the next build's cache and no more than
        that: there is one such name per stage in a repository, and the collection of images knows them.
        """
        name = self._layers_name(plan)
        with suppress(DockerException, requests.RequestException, ValueError):
            former = client.find_image(name)
            if self._is_own(client.image(layer)):
                client.name_image(layer, name)
                self._held.add(name)
                if former:
                    client.remove_image(former["Id"])  # unless layers were made from it

    def _parameters(self, plan: Plan) -> dict[str, str | int]:
        """Return the query of `POST /build` (Docker Engine API, "Build an image")."""
        parameters: dict[str, str | int] = {
            "dockerfile": context.DOCKERFILE,
            "t": plan.tag,
            "buildargs": json.dumps(dict(plan.arguments)),
            "nocache": int(plan.rebuild),
            "rm": 1,
            "forcerm": 1,
        }
        if self._limits.memory is not None:
            # Of memory and swap together, so that there is no swap.
            parameters |= {"memory": self._limits.memory, "memswap": self._limits.memory}
        if (quota := self._limits.quota()) is not None:
            parameters |= {"cpuperiod": CPU_PERIOD, "cpuquota": quota}
        return parameters

    def _failure(self, client: IsolatedClient, plan: Plan, step: int, container: str, message: str) -> SlipwayError:
        failure = _failure(plan, step, message)
        if not isinstance(failure, StepFailedError) or self._limits.memory is None:
            return failure
        if failure.status == KILLED or self._was_out_of_memory(client, container):
            return self._limits.memory_error(failure.where)
        return failure

    def _was_out_of_memory(self, client: IsolatedClient, container: str) -> bool:
        """Ask the engine whether a step's container, which is gone by now, has met its limit of memory."""
        history: Any = client.events
        span = {"since": int(self._started), "until": f"{time.time():.9f}"}
        found = history(**span, filters={"event": ["oom"], "container": [container]}, decode=True)
        return bool(container) and any(True for _ in found)

    def discard(self, client: IsolatedClient) -> None:
        """Remove this run's image, or the layers of the steps that it had finished."""
        with suppress(DockerException, requests.RequestException):
            if self._finished:
                client.remove_image(self._finished.tag, noprune=True)
        until = time.monotonic() + CONTAINER_END_SECONDS
        for name in self._held:
            with suppress(DockerException, requests.RequestException):
                _remove_layer(client, name, until)
        for layer in reversed(self._layers):
            # A layer that others were made from meanwhile is kept by the engine; the rest is tried all the same.
            with suppress(DockerException, requests.RequestException, ValueError):
                if self._is_own(client.image(layer)):
                    _remove_layer(client, layer, until)

    def _is_own(self, image: Mapping[str, Any]) -> bool:
        """Tell whether an image can be a layer of this run.

        Which layers there are is read from the output, and programs in the build write to it too: one that printed the
        id of somebody else's image must not have it removed.
        """
        created = datetime.fromisoformat(re.sub(r"\.[0-9]+", "", str(image["Created"]))).astimezone(UTC)
        return not image.get("RepoTags") and not image.get("RepoDigests") and created.timestamp() >= int(self._started)


def _remove_layer(client: IsolatedClient, layer: str, until: float) -> None:
    """Remove a layer, as soon as the container of the step after it is gone."""
    while True:
        try:
            client.remove_image(layer, noprune=True)
        except APIError as error:
            if "container" not in str(error.explanation) or time.monotonic() > until:
                raise
            time.sleep(CONTAINER_LOOK_SECONDS)
        else:
            return


def _named(text: str, plan: Plan) -> str:
    for use, base in plan.bases.items():
        text = text.replace(base.id, str(use.reference))
    return text


def _failure(plan: Plan, step: int, message: str) -> BuildFailedError | DockerfileError:
    said = one_line(_named(message, plan))
    if syntax := _PARSE_ERROR.fullmatch(said):
        return DockerfileError(Numbering.of(plan).line(int(syntax[1])), syntax[2])
    kind = _LayerVanishedError if _VANISHED.fullmatch(said) else BuildFailedError
    if not 0 < step <= len(plan.dockerfile.instructions):
        return kind(f"The engine could not build the Dockerfile: {said}.")
    instruction = plan.dockerfile.instructions[step - 1]
    where = f"Dockerfile line {instruction.line}: {quoted(instruction)}"
    if status := _EXIT_STATUS.search(said):
        return StepFailedError(where, int(status[1]))
    return kind(f"{where} failed: {said}.")
