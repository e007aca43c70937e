"""bin/setup on somebody's machine: a fresh clone becomes usable, and nothing is done twice or behind anybody's back."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.world.network_namespace import outside

ROOT = Path(__file__).resolve().parent.parent

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="hides the machine's programs, which takes a mount namespace")


@pytest.fixture
def clone() -> Iterator[Path]:
    """The working tree as a fresh clone would have it, in a folder with a space in its name, readable for everybody."""
    folder = Path(tempfile.mkdtemp(prefix="slipway clone "))
    folder.chmod(0o755)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    yield folder
    shutil.rmtree(folder)


def run(words: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    # A package index may be anywhere, so this one command leaves the tests' own network.
    command = outside(words) if os.geteuid() == 0 else words
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=600, check=False)


def test_a_clone_becomes_usable_from_any_folder_and_stays_as_it_is_the_second_time(clone: Path) -> None:
    first = run([clone / "bin/setup"])
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("setup: installing requirements.lock into .venv")
    usage = run([clone / ".venv/bin/slipway", "--help"])
    assert usage.returncode == 0, usage.stderr
    assert "serve" in usage.stdout

    made = (clone / ".venv").stat().st_mtime_ns
    second = run([clone / "bin/setup"])
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert (clone / ".venv").stat().st_mtime_ns == made


@needs_root
def test_who_may_not_install_packages_is_told_which_ones_to_install(clone: Path) -> None:
    hide = "mount -t tmpfs none /usr/sbin"
    nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups -- env -i PATH=/usr/bin"
    answer = run(["unshare", "--mount", "sh", "-c", f'{hide} && exec {nobody} "$0" --demo', clone / "bin/setup"])
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith(
        "setup: this machine lacks packages; run: sudo apt-get install --no-install-recommends "
    )
    assert answer.stderr.count("\n") == 1
    assert {"haproxy", "docker.io"} & set(answer.stderr.split()) == (
        {"haproxy"} if Path("/var/run/docker.sock").exists() else {"haproxy", "docker.io"}
    )
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("script", ["setup", "test", "demo"])
def test_each_script_says_what_it_is_for(script: str) -> None:
    answer = run([ROOT / "bin" / script, "--help"])
    assert answer.returncode == 0
    assert answer.stdout.startswith(f"usage: bin/{script}")


def test_an_unknown_word_is_refused() -> None:
    answer = run([ROOT / "bin/setup", "--everything"])
    assert answer.returncode == 2
    assert answer.stderr.startswith("usage: bin/setup")
