"""The engine's stream of messages, as lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.output import LONGEST_LINE, Lines, pull_lines, unpainted


def said(pieces: list[str]) -> str:
    heard: list[str] = []
    lines = Lines(heard.append)
    for piece in pieces:
        lines.add(piece)
    lines.end()
    assert all(text.endswith("\n") for text in heard)
    return "".join(heard)


@given(st.lists(st.text(alphabet="ab\n", max_size=6)))
def test_how_output_is_cut_does_not_matter(pieces: list[str]) -> None:
    whole = "".join(pieces)
    assert said(pieces) == whole + ("" if whole.endswith("\n") or not whole else "\n")


def test_a_line_is_said_as_soon_as_it_ends() -> None:
    heard: list[str] = []
    lines = Lines(heard.append)
    lines.add("one\ntw")
    assert heard == ["one\n"]
    lines.add("o\nthree\n")
    assert heard == ["one\n", "two\nthree\n"]


def test_a_progress_bar_is_its_last_state() -> None:
    assert said(["10%\r50%\r", "100%\ndone\r\n"]) == "100%\ndone\n"


def test_an_endless_line_is_cut() -> None:
    heard: list[str] = []
    lines = Lines(heard.append)
    for _ in range(100):
        lines.add("x" * (LONGEST_LINE // 10))
    assert len(heard) >= 8


def test_red_is_taken_off() -> None:
    assert unpainted("\x1b[91mwarning\n\x1b[0m") == "warning\n"
    assert unpainted("\x1b[32mown colour\x1b[0m\n") == "\x1b[32mown colour\x1b[0m\n"


def test_a_pull_is_one_line_a_layer() -> None:
    messages = [
        {"status": "Pulling fs layer", "id": "aa"},
        {"status": "Downloading", "id": "aa", "progress": "[==> ]"},
        {"status": "Already exists", "id": "bb"},
        {"status": "Pull complete", "id": "aa"},
    ]
    assert list(pull_lines(iter(messages))) == ["  bb: already exists\n", "  aa: pull complete\n"]
