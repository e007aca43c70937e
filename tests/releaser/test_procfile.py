"""What a Procfile may say, and what its author is told when it does not say it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releaser.procfile import MAX_SERVICES, ProcfileError, parse

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=63)
COMMANDS = (
    st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), max_size=100)
    .map(str.strip)
    .filter(bool)
)


def test_services_come_in_the_files_order() -> None:
    text = "# the shop\nweb: gunicorn -b :$PORT 'shop:app'\n\nworker:rq worker\r\nclock :  cron -f\n"
    assert list(parse(text).items()) == [
        ("web", "gunicorn -b :$PORT 'shop:app'"),
        ("worker", "rq worker"),
        ("clock", "cron -f"),
    ]


@given(st.dictionaries(NAMES, COMMANDS, min_size=1, max_size=MAX_SERVICES))
def test_whatever_is_written_down_is_read_back(commands: dict[str, str]) -> None:
    assert parse("".join(f"{name}: {command}\n" for name, command in commands.items())) == commands


@given(st.text())
def test_any_text_is_services_or_one_sentence(text: str) -> None:
    try:
        found = parse(text)
    except ProcfileError as error:
        said = str(error)
    else:
        said = "Procfile"
        assert found
        assert all(command and "\0" not in command for command in found.values())
    assert "Procfile" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: a\nrun the app\n", "line 2 of the Procfile is not of the form 'name: command'"),
        ("web: a\nwe/b: a\n", "line 2"),
        ("web: a\n\nweb: b\n", "line 3 of the Procfile names the service 'web' a second time"),
        ("web:\n", "line 1 of the Procfile gives the service 'web' no command"),
        ("web: a\0b\n", "line 1 of the Procfile has a NUL byte"),
        (f"{'a' * 64}: b\n", "line 1 of the Procfile has a service name of more than 63"),
        (f"web: {'a' * 65_537}\n", "line 1 of the Procfile has a command of more than 65536"),
        ("# nothing\n", "names no service"),
        ("".join(f"s{number}: a\n" for number in range(51)), "names 51 services"),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ProcfileError, match=message):
        parse(text)
