"""The builder's tests on the engine of the Debian release after this one: `python -m tests.builder.newer_engine`.

Takes Debian's packages of that engine, unpacked beside the machine's own and not installed (about ten seconds), and
runs pytest with them; further words are pytest's, or `-m MODULE …` runs a module instead, such as `-m bench.push`.
Needs Debian 12, root, and what `bin/setup --dev` installs.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from demo.root_filesystem import SYSTEM_PATH

SUITE = "trixie"
PACKAGES = ("docker.io", "containerd")
"""runc is left out: that release's wants a newer libc, and the machine's own does."""


def main() -> int:
    """Unpack, and run the tests; return pytest's exit status."""
    with tempfile.TemporaryDirectory(prefix="slipway-engine-") as folder, pytest.MonkeyPatch.context() as patch:
        root = unpack(Path(folder))
        patch.setattr("demo.engine.SYSTEM_PATH", f"{root}/usr/sbin:{root}/usr/bin:{SYSTEM_PATH}")
        patch.setenv("PATH", f"{root}/usr/sbin:{root}/usr/bin", prepend=":")
        if sys.argv[1:2] == ["-m"]:
            sys.argv = sys.argv[2:]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            return 0
        return int(pytest.main(sys.argv[1:] or ["tests/builder"]))


def unpack(folder: Path) -> Path:
    """Download the packages with a configuration of their own, and return the folder that they are unpacked in."""
    root = folder / "root"
    for path in (root, folder / "lists" / "partial", folder / "archives" / "partial"):
        path.mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    known = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"],
        check=True,
        capture_output=True,
        text=True,
    )
    archive = known.stdout.split()[0]
    (folder / "sources.list").write_text(f"deb [signed-by={keyring}] {archive} {SUITE} main\n")
    words = [
        *("apt-get", "-qq", "-o", f"Dir::State={folder}", "-o", f"Dir::Cache={folder}"),
        *("-o", f"Dir::Etc::SourceList={folder}/sources.list", "-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"),
    ]
    subprocess.run([*words, "update"], check=True)
    subprocess.run([*words, "download", *PACKAGES], check=True, cwd=folder)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, root], check=True)
    return root


if __name__ == "__main__":
    sys.exit(main())
