"""What an app writes, as its owner sees it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hooks.redaction import patterns
from hooks.service_logs import LONGEST_LINE, ServiceLog
from store.secret import Secret

SECRET = "hunter2hunter2"


def shown(*chunks: bytes) -> str:
    written: list[str] = []
    log = ServiceLog("web.1", patterns([{"SECRET": Secret(SECRET)}]), written.append)
    for chunk in chunks:
        log.feed(chunk)
    log.end()
    return "".join(written)


def test_every_line_says_whose_it_is_however_it_is_cut() -> None:
    assert shown(b"one\ntw", b"o\n\nl\xc3", b"\xa4st") == "web.1 | one\nweb.1 | two\nweb.1 | \nweb.1 | läst\n"


def test_a_secret_is_taken_out_across_chunks() -> None:
    assert shown(b"password hun", b"ter2hunt", b"er2!\n") == "web.1 | password [secret]!\n"


def test_colours_stay_and_what_steers_a_terminal_does_not() -> None:
    assert shown(b"\x1b[31mred\x1b[0m\tplain\r\n\x1b]0;title\x07\x1b[2J\n") == (
        "web.1 | \x1b[31mred\x1b[0m\tplain\nweb.1 |  ]0;title  [2J\n"
    )


def test_a_line_without_an_end_does_not_pile_up() -> None:
    lines = shown(*[b"x" * 10_000] * 10).splitlines()
    assert sum(line.count("x") for line in lines) == 100_000
    assert max(map(len, lines)) == LONGEST_LINE + len("web.1 | ")


@given(st.binary(max_size=200), st.integers(0, 200))
def test_it_does_not_matter_where_chunks_end(data: bytes, cut: int) -> None:
    assert shown(data) == shown(data[:cut], data[cut:])
