import pickle

import pytest

from store import config
from store.errors import UsageError
from store.secret import Secret


def test_a_secret_shows_nothing_however_it_is_printed() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret!s:>20} {[secret]} {{'a': secret}}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret == Secret("hunter2")
    assert secret != Secret("hunter3")
    assert not Secret("")


def test_an_empty_value_removes_its_variable() -> None:
    merged = config.merge({"A": Secret("1"), "B": Secret("2")}, {"A": Secret(""), "C": Secret("3")})
    assert config.load(config.dump(merged)) == {"B": Secret("2"), "C": Secret("3")}


@pytest.mark.parametrize("name", ["", "9A", "A-B", "A B", "Ä", "A" * 256, "A\n"])
def test_a_name_that_no_shell_could_set_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a config variable's name"):
        config.parse_pairs([f"{name}=hunter2"])


def test_the_longest_value_is_taken_and_one_more_character_is_not() -> None:
    assert config.parse_pairs(["A=" + "x" * 65_536])
    with pytest.raises(UsageError, match="65,537 characters; at most 65,536"):
        config.parse_pairs(["A=" + "x" * 65_537])


def test_a_word_without_equals_sign_is_refused() -> None:
    with pytest.raises(UsageError, match="not of the form KEY=VALUE"):
        config.parse_pairs(["FOO"])
