"""What the engine counts in a file with labels is what the author counts in the one without."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.numbering import Numbering

INSTRUCTIONS = st.lists(st.booleans(), min_size=1, max_size=30)
"""Whether a label was put below each instruction."""


@given(INSTRUCTIONS)
def test_every_step_is_the_authors(below: list[bool]) -> None:
    steps = tuple(number for number, label in enumerate(below, 1) if label)
    numbering = Numbering(steps, ())
    file = [entry for number, label in enumerate(below, 1) for entry in [(number, False), (number, True)][: 1 + label]]
    for step, (number, is_label) in enumerate(file, 1):
        assert (numbering.step(step), numbering.is_label(step)) == (number, is_label)


def test_lines_below_a_label_are_one_up() -> None:
    numbering = Numbering((), (2, 7))
    assert [numbering.line(line) for line in range(1, 12)] == [1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9]
