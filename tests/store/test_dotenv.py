import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store import dotenv
from store.errors import UsageError

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
values = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=60)


def read(text: str) -> dict[str, str]:
    return {name: value.reveal() for name, value in dotenv.parse(text).items()}


def double_quoted(value: str) -> str:
    for character in ("\\", '"', "$"):
        value = value.replace(character, "\\" + character)
    return f'"{value}"'


@given(st.dictionaries(names, values))
def test_whatever_is_quoted_comes_back(variables: dict[str, str]) -> None:
    assert read("".join(f"{name}={double_quoted(value)}\n" for name, value in variables.items())) == variables


@given(st.dictionaries(names, values.filter(lambda value: "'" not in value)))
def test_single_quotes_are_literal(variables: dict[str, str]) -> None:
    assert read("".join(f"export {name} = '{value}' # why\n" for name, value in variables.items())) == variables


@given(st.text(max_size=200))
@example("A=\r")
@example("A=b\rc")
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    try:
        dotenv.parse(text)
    except UsageError as error:
        assert str(error)


def test_the_forms_that_people_write() -> None:
    text = 'A=1\n\n# comment\nexport B=two words # why\nC="x\\ny"\nD=\'$HOME "q"\'\nE=\nF=a#b\n  G = spaced  \n'
    assert read(text) == {
        "A": "1", "B": "two words", "C": "x\ny", "D": '$HOME "q"', "E": "", "F": "a#b", "G": "spaced",
    }  # fmt: skip


def test_a_value_may_span_lines() -> None:
    assert read("KEY='-----BEGIN-----\nabc\n-----END-----'\nNEXT=1\n") == {
        "KEY": "-----BEGIN-----\nabc\n-----END-----",
        "NEXT": "1",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\njust words hunter2\n", "line 2"),
        ('A="never closed hunter2\n', "line 1"),
        ("A='b' hunter2\n", "line 1"),
        ("9A=hunter2\n", "'9A'"),
    ],
)
def test_what_is_off_is_named_by_its_line_and_not_repeated(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        dotenv.parse(text)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
