"""Nothing that a user can type or set is undocumented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console import access, reference
from console.grammar import load
from console.program import program
from console.settings import LIMITS, SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("commands.md", reference.commands_page()),
        ("settings.md", reference.settings_page()),
        ("access.md", reference.access_page()),
    ],
)
def test_the_reference_is_what_the_program_does(page: str, written: str) -> None:
    assert (ROOT / "docs" / page).read_text() == written, "write it again with: python -m console.reference"


def test_every_command_and_option_says_what_it_is_for() -> None:
    for name, command in {**load().commands, **program.commands}.items():
        assert command.help, name
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert getattr(parameter, "help", None), f"{name} {parameter.opts}"


def test_it_is_settled_for_every_command_who_may_use_it() -> None:
    settled = [*access.ON_APPS, *access.ANYBODY, *access.ADMINISTRATORS]
    assert len(settled) == len(set(settled)), "in one table each"
    missing = set(load().commands) - set(settled)
    assert not missing, "say in console/access.py who may use them"


def test_every_config_variable_that_the_code_knows_is_documented() -> None:
    page = "".join((ROOT / "docs" / name).read_text() for name in ("settings.md", "commands.md"))
    known = set()
    for room in ("builder", "releaser", "hooks", "console", "gitserver"):
        for module in (ROOT / room).rglob("*.py"):
            known |= set(re.findall(r'"((?:SLIPWAY|RELEASE|STRICT|APTIBLE_PRIVATE)_[A-Z_]+)"', module.read_text()))
    assert known
    for variable in known:
        assert variable in page, f"{variable} is documented nowhere"


def test_every_page_is_reachable_and_every_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    linked = set()
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
            linked.add((page.parent / target).resolve())
    assert {page for page in pages if page.name != "README.md"} <= linked


def test_the_settings_have_one_name_each() -> None:
    every = (*SETTINGS, *LIMITS)
    assert len({setting.variable for setting in every}) == len(every)
