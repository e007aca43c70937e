"""What BuildKit does, told the way people know from `docker build --progress=plain`.

BuildKit reports vertices of its graph (`control.proto` of github.com/moby/buildkit, "StatusResponse"): a vertex is a
step of the Dockerfile or something internal, it starts, prints, and completes, and several run at the same time.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import Counter

from builder import metrics
from builder.buildkit.messages_pb2 import StatusResponse, Vertex, VertexLog
from builder.dockerfile import Instruction
from builder.output import Lines, one_line
from builder.plan import Plan

TRACE = "moby.buildkit.trace"
"""`id` of the messages that carry progress."""

_STEP = re.compile(r"\[(?:(?P<stage>.+) )?(?P<number>[0-9]+)/[0-9]+\] ")
_COUNTED = frozenset({"add", "copy", "run", "workdir"})
"""Instructions that are a step of their own; FROM is the first one of each stage."""
_INTERNAL = ("[internal] ", "[auth] ")


class Steps:
    """Which instruction of the Dockerfile a vertex is, by the name that BuildKit gives it: `[STAGE NUMBER/TOTAL] …`."""

    def __init__(self, plan: Plan) -> None:
        self._stages: dict[str, list[Instruction | None]] = {}
        triggers: dict[str, list[str]] = {}
        name = ""
        for position, instruction in enumerate(plan.dockerfile.instructions):
            if instruction.keyword == "from":
                number = len(self._stages)
                name = plan.stages.names[number] or f"stage-{number}"
                image = plan.stages.bases[position][0].lower()
                if use := plan.stages.uses.get(position):
                    run = (plan.bases[use].inspection.get("Config") or {}).get("OnBuild") or []
                else:
                    run = triggers.get(image, [])
                # A step that a base image's ONBUILD adds stands between FROM and the first one of the file.
                own = [None for trigger in run if trigger.split(maxsplit=1)[0].lower() in _COUNTED]
                self._stages[name] = [instruction, *own]
                triggers[name] = []
            elif instruction.keyword in _COUNTED and name:
                self._stages[name].append(instruction)
            elif instruction.keyword == "onbuild" and name:
                triggers[name].append(instruction.arguments)
        self._only = name if len(self._stages) == 1 else ""

    def find(self, name: str) -> Instruction | None:
        """Return the instruction of a vertex, None for what is none or comes from an ONBUILD."""
        step = _STEP.match(name)
        if not step:
            return None
        # A platform may stand before the stage's name.
        stage = self._stages.get((step["stage"] or self._only).rpartition(" ")[2], [])
        at = int(step["number"]) - 1
        return stage[at] if 0 <= at < len(stage) else None

    def title(self, name: str) -> str:
        """Return a vertex's name with the instruction as its author wrote it."""
        step, instruction = _STEP.match(name), self.find(name)
        if not step or not instruction:
            return one_line(name)
        return step[0] + one_line(instruction.text)


@dataclass
class _Shown:
    """A vertex that has been told about."""

    number: int
    started: float
    ended: bool = False
    lines: dict[int, Lines] = field(default_factory=dict)
    decoders: dict[int, codecs.IncrementalDecoder] = field(default_factory=dict)


class Progress:
    """Turns trace messages into lines, said at once."""

    def __init__(self, steps: Steps, say: Callable[[str], None]) -> None:
        self._steps = steps
        self._say = say
        self._shown: dict[str, _Shown] = {}
        self.failed: Vertex | None = None
        """The vertex that ended with an error of its own."""

    def trace(self, encoded: str) -> None:
        """Take the `aux` of one message."""
        status = StatusResponse.FromString(base64.b64decode(encoded))
        ended = []
        for vertex in status.vertexes:
            if vertex.HasField("started"):
                self._begin(vertex)
            if vertex.HasField("completed"):
                ended.append(vertex)
        for log in status.logs:
            self._log(log)
        for vertex in ended:
            self._end(vertex)
        for warning in status.warnings:
            self._say(f"Warning: {one_line(warning.short.decode('utf-8', 'replace'))}\n")

    def close(self) -> None:
        """Say what is left of unfinished lines."""
        for shown in self._shown.values():
            for lines in shown.lines.values():
                lines.end()

    def _begin(self, vertex: Vertex) -> None:
        if vertex.digest in self._shown or vertex.name.startswith(_INTERNAL):
            return
        shown = _Shown(len(self._shown) + 1, _seconds(vertex.started))
        self._shown[vertex.digest] = shown
        self._say(f"#{shown.number} {self._steps.title(vertex.name)}\n")

    def _log(self, log: VertexLog) -> None:
        shown = self._shown.get(log.vertex)
        if shown is None:
            return
        lines = shown.lines.get(log.stream)
        if lines is None:
            lines = shown.lines[log.stream] = Lines(self._say)
            shown.decoders[log.stream] = codecs.getincrementaldecoder("utf-8")("replace")
        lines.prefix = f"#{shown.number} {max(0.0, _seconds(log.timestamp) - shown.started):.3f} "
        lines.add(shown.decoders[log.stream].decode(log.message))

    def _end(self, vertex: Vertex) -> None:
        if vertex.error and not _is_consequence(vertex.error):
            self.failed = self.failed or vertex
        shown = self._shown.get(vertex.digest)
        if shown is None or shown.ended:
            return
        shown.ended = True
        for lines in shown.lines.values():
            lines.end()
        if vertex.error:
            outcome = "CANCELED" if _is_consequence(vertex.error) else "ERROR"
        elif vertex.cached:
            outcome = "CACHED"
            self._count(vertex, metrics.CACHED)
        else:
            self._count(vertex, metrics.RUN)
            outcome = f"DONE {_seconds(vertex.completed) - shown.started:.1f}s"
        self._say(f"#{shown.number} {outcome}\n")

    @staticmethod
    def _count(vertex: Vertex, origin: Counter) -> None:
        """Count a step that has ended. The first of a stage is its base image, which is no work."""
        step = _STEP.match(vertex.name)
        if step and int(step["number"]) > 1:
            origin.inc()


def _is_consequence(error: str) -> bool:
    """Tell whether a vertex only ended because another one failed."""
    return error.endswith("context canceled")


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return text with what only this side knows replaced by what the Dockerfile says."""
    for hidden, name in names.items():
        text = text.replace(hidden, name)
    return text
