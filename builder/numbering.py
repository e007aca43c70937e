"""Steps and lines as the author of a Dockerfile counts them, told from those of the file that the engine reads.

The engine's file has a LABEL below each FROM of `stages.labelled`, so that even the layers of a build that nobody is
left to name can be told from those of other programs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from builder import stages
from builder.plan import Plan


@dataclass(frozen=True)
class Numbering:
    """How one build's file is numbered."""

    steps: tuple[int, ...]
    """The author's numbers, from 1, of the instructions below which a label was put."""
    lines: tuple[int, ...]
    """Their lines."""

    @classmethod
    def of(cls, plan: Plan) -> Numbering:
        """Return that of the file that is written for a plan."""
        if not plan.labels:
            return cls((), ())
        positions = stages.labelled(plan.stages)
        lines = tuple(plan.dockerfile.instructions[each].line for each in positions)
        return cls(tuple(each + 1 for each in positions), lines)

    def step(self, step: int) -> int:
        """Return the author's number of a step of the engine; a label counts as its FROM."""
        return _before(step, self.steps)

    def is_label(self, step: int) -> bool:
        """Return whether a step of the engine is a label that the author did not write."""
        return step in (each + number for number, each in enumerate(self.steps, 1))

    def line(self, line: int) -> int:
        """Return the author's number of a line of the engine's file."""
        return _before(line, self.lines)


def _before(number: int, inserted_after: Iterable[int]) -> int:
    for each in inserted_after:
        if number <= each:
            break
        number -= 1
    return number
