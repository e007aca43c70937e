"""Git's own tests of pushing, against this server and against OpenSSH with git: `python -m tests.suites.git_t`.

Debian's source package of git is fetched and built in a folder of its own (the first time; some minutes), and its
`git-receive-pack` replaced by a program that asks the server for the same by SSH. Prints a table, and which tests fail
here that pass there. It takes apt-get, a compiler, zlib's headers, sshd and ssh; nothing of the machine's is changed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from tests.suites.debian_source import fetch
from tests.suites.servers import openssh, this_server

SCRIPTS = (
    "t5401-update-hooks", "t5504-fetch-receive-strict", "t5516-fetch-push", "t5538-push-shallow", "t5543-atomic-push",
    "t5545-push-options", "t5546-receive-limits", "t5547-push-quarantine", "t5548-push-porcelain",
)  # fmt: skip

WITHOUT = ["NO_GETTEXT=1", "NO_TCLTK=1", "NO_CURL=1", "NO_EXPAT=1", "NO_OPENSSL=1", "NO_PYTHON=1"]
"""Parts of git that pushing over SSH has no use for."""

WRAPPER = """\
#!/bin/sh
for path; do :; done
case $path in /*) ;; *) path=$PWD/$path ;; esac
quoted=$(printf %s "$path" | sed "s/'/'\\\\\\\\''/g")
exec ssh -F "$SUITE_SSH_CONFIG" server "git-receive-pack '$quoted'"
"""


@dataclass(frozen=True)
class Result:
    """What became of one script's tests."""

    passed: frozenset[str]
    failed: frozenset[str]


def build(sources: Path) -> None:
    """Build them, once, and keep the receive-pack that was built aside."""
    if not (sources / "bin-wrappers/git").exists():
        subprocess.run(["make", "-s", "-j2", *WITHOUT, "all"], check=True, cwd=sources)
    original = sources / "git-receive-pack"
    if not original.with_suffix(".original").exists():
        original.rename(original.with_suffix(".original"))


def install_wrapper(sources: Path) -> None:
    for wrapper in (sources / "git-receive-pack", sources / "bin-wrappers/git-receive-pack"):
        wrapper.unlink(missing_ok=True)
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)


def run(sources: Path, script: str, config: Path) -> Result:
    """Run one script against the server that `config` leads to."""
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            ["sh", f"./{script}.sh", f"--root={root}"],
            cwd=sources / "t",
            env={**os.environ, "SUITE_SSH_CONFIG": str(config)},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    # Titles may repeat within a script, so each goes with its number.
    lines = re.findall(r"^(ok|not ok) (\d+ - .*)$", done.stdout, re.MULTILINE)
    counted = [(ok, title) for ok, title in lines if "# skip" not in title and "# TODO" not in title]
    return Result(
        frozenset(title for ok, title in counted if ok == "ok"),
        frozenset(title for ok, title in counted if ok != "ok"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "git-t", help="keeps the build")
    parser.add_argument("scripts", nargs="*", default=SCRIPTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    sources = fetch("git", options.work.resolve())
    build(sources)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        key = folder / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        print("| script | this server | OpenSSH with git |\n|---|---|---|", flush=True)
        failures = []
        install_wrapper(sources)
        with this_server(folder, key) as ours, openssh(folder, key) as theirs, ThreadPoolExecutor(2) as both:
            for script in options.scripts:
                mine, reference = both.map(run, repeat(sources), repeat(script), [ours, theirs])
                tests = len(reference.passed | reference.failed)
                print(f"| {script} | {len(mine.passed)} of {tests} | {len(reference.passed)} of {tests} |", flush=True)
                failures += [f"{script}: {title}" for title in sorted(reference.passed - mine.passed)]
        print("\nPass there and fail here:", *(failures or ["none"]), sep="\n- ")


if __name__ == "__main__":
    main()
