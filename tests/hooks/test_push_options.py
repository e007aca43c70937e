"""What `git push -o …` may ask for, and what a push may do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.engine_room import Repository
from hooks.pre_receive import ZERO, RefUpdate, judge
from hooks.push_options import PushOptionError, PushOptions, parse
from store.secret import Secret

REPOSITORY = Repository("shop", Path("/nowhere"), ("refs/heads/main", "refs/heads/master"))
MAIN = RefUpdate("refs/heads/main", ZERO, "1" * 40)
OTHER = RefUpdate("refs/heads/other", ZERO, "2" * 40)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), max_size=50)


def options(*texts: str) -> list[Secret]:
    return [Secret(text) for text in texts]


@given(st.dictionaries(NAMES, VALUES), st.booleans(), st.booleans())
def test_what_is_written_is_read(changes: dict[str, str], no_deploy: bool, zero_downtime: bool) -> None:
    texts = [f"config={name}={value}" for name, value in changes.items()]
    texts += ["no-deploy"] * no_deploy + ["force-zero-downtime"] * zero_downtime
    wanted = {name: Secret(value) for name, value in changes.items()}
    assert parse(options(*texts)) == PushOptions(wanted, no_deploy=no_deploy, force_zero_downtime=zero_downtime)


@given(st.lists(st.text(max_size=30) | st.builds("config={}={}".format, st.text(max_size=9), st.text(max_size=9))))
def test_anything_is_read_or_refused_with_a_sentence(texts: list[str]) -> None:
    try:
        parse(options(*texts))
    except PushOptionError as error:
        assert str(error)


def test_the_last_of_two_values_counts() -> None:
    assert parse(options("config=A=1", "config=A=2")).changes == {"A": Secret("2")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deploy-later=hunter2hunter2", "there is no push option 'deploy-later'"),
        ("config", "config=KEY=VALUE"),
        ("config=hunter2hunter2", "config=KEY=VALUE"),
        ("config=1st=hunter2hunter2", "'1st' is not a config variable's name"),
        ("config=A=hunter2hunter2\0", "the value of A contains a NUL character"),
        ("config=A=" + "hunter2hunter2" * 5000, "the value of A has 70,000 characters"),
        ("no-deploy=hunter2hunter2", "no-deploy takes no value"),
    ],
)
def test_a_refusal_names_the_option_and_not_its_value(text: str, said: str) -> None:
    with pytest.raises(PushOptionError) as refused:
        parse(options(text))
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_bad_option_refuses_every_update() -> None:
    verdicts = judge(REPOSITORY, [MAIN, OTHER], options("nonsense"))
    assert all("no push option 'nonsense'" in (verdict.refusal or "") for verdict in verdicts)
    assert not any(verdict.deploys for verdict in verdicts)


@pytest.mark.parametrize(
    ("updates", "texts"),
    [
        ([OTHER], ["config=A=1"]),
        ([OTHER], ["force-zero-downtime"]),
        ([MAIN], ["no-deploy", "config=A=1"]),
        ([MAIN], ["no-deploy", "force-zero-downtime"]),
    ],
)
def test_options_of_a_deploy_need_one(updates: list[RefUpdate], texts: list[str]) -> None:
    verdicts = judge(REPOSITORY, updates, options(*texts))
    assert all("this push deploys nothing" in (verdict.refusal or "") for verdict in verdicts)


def test_no_deploy_leaves_the_deploying_branch_alone() -> None:
    master = RefUpdate("refs/heads/master", ZERO, "3" * 40)
    verdicts = judge(REPOSITORY, [MAIN, master, OTHER], options("no-deploy"))
    assert [verdict.target for verdict in verdicts] == [
        "refs/heads/stored/main",
        "refs/heads/stored/master",
        "refs/heads/other",
    ]
    assert not any(verdict.deploys or verdict.refusal for verdict in verdicts)


def test_no_deploy_does_not_delete_what_runs() -> None:
    (verdict,) = judge(REPOSITORY, [RefUpdate(MAIN.ref, MAIN.new, ZERO)], options("no-deploy"))
    assert "cannot be deleted" in (verdict.refusal or "")
