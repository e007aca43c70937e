"""`.aptible.yml`, as people write it and as they get it wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releaser.aptible_yml import AptibleYmlError, Hooks, parse


def test_no_file_an_empty_one_and_one_of_comments_ask_for_nothing() -> None:
    assert parse(None) == parse("") == parse("# later\n") == parse("before_deploy:\n") == Hooks()


def test_hooks_keep_their_order_and_their_words() -> None:
    hooks = parse(
        "before_release:\n  - bin/migrate --all\n  - 'echo \"a: b\"'\n  - true\n"
        "after_deploy_success: [bin/notify]\nafter_scale_failure:\n- |\n  echo a\n  echo b\n"
    )
    assert hooks.before_deploy == ("bin/migrate --all", 'echo "a: b"', "true")
    assert hooks.after == {"after_deploy_success": ("bin/notify",), "after_scale_failure": ("echo a\necho b\n",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n", r"line 1 .*there has to be a key like 'before_deploy:'"),
        ("\n\nbefore_deplyo: [a]\n", r"line 3 .*no key 'before_deplyo'; there are before_deploy, before_release"),
        ("before_deploy: bin/migrate\n", r"line 1 .*'before_deploy' has to be a list"),
        ("before_deploy:\n- a\n- {b: c}\n", r"line 3 .*a command of 'before_deploy' is not one line of text"),
        ("before_deploy:\n- a\n- ''\n", r"line 3 "),
        ("before_deploy: [a]\n\nbefore_deploy: [b]\n", r"line 3 .*'before_deploy' is there a second time; keep one"),
        (
            "before_deploy: [a]\nbefore_release: [b]\n",
            r"line 2 .*a second time, which is another name of 'before_deploy'",
        ),
        ("before_deploy: [a\nb: c", r"line \d of \.aptible\.yml is not YAML: .*; mend it"),
        ("before_deploy:\n- a\x07\n", r"line 2 of \.aptible\.yml has a character that YAML forbids"),
        ("? [a]\n: b\n", r"line 1 .*no key '\?'"),
        ("- " * 20_000, r"nested too deeply"),
        ("#" * 70_000, r"more than 65,536 characters"),
        ("before_deploy: [" + "a," * 51 + "]", r"more than 50 commands"),
        ("before_deploy: !!python/object/apply:os.system [a]\nx: 1", r"line 2 "),
        ("before_deploy: &a [*a]\n", r"line 1 .*not one line of text"),
    ],
)
def test_a_complaint_names_line_and_key(text: str, message: str) -> None:
    with pytest.raises(AptibleYmlError, match=message):
        parse(text)


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), max_size=10))
def test_any_quoted_command_arrives_as_it_is(commands: list[str]) -> None:
    quoted = "".join("- '{}'\n".format(command.replace("'", "''")) for command in commands)
    assert parse(f"before_deploy:\n{quoted}").before_deploy == tuple(commands)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except AptibleYmlError as error:
        assert ".aptible.yml" in str(error)
