"""Git's own tests of pushing, against this server and against OpenSSH with git: `python -m tests.suites.git_t`.

Debian's source package of git is fetched and built in a folder of its own (the first time; some minutes), and its
`git-receive-pack` replaced by a program that asks the server for the same by SSH. Prints a table, and which tests fail
here that pass there. It takes apt-get, a compiler, zlib's headers, sshd and ssh; nothing of the machine's is changed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from gitserver import host_key

SCRIPTS = (
    "t5401-update-hooks", "t5504-fetch-receive-strict", "t5516-fetch-push", "t5538-push-shallow", "t5543-atomic-push",
    "t5545-push-options", "t5546-receive-limits", "t5547-push-quarantine", "t5548-push-porcelain",
)  # fmt: skip

ROOT = Path(__file__).parents[2]

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


def fetch(folder: Path) -> Path:
    """Return the sources of Debian's git, unpacked; apt gets settings of its own, from the machine's first archive."""
    sources = folder / "git"
    if (sources / "Makefile").exists():
        return sources
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True, exist_ok=True)
    (folder / "apt/status").touch()
    target = ["apt-get", "indextargets", "--format", "deb-src $(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    archives = subprocess.run(target, check=True, capture_output=True, text=True).stdout.splitlines()
    (folder / "apt/sources.list").write_text(sorted(archives)[0] + "\n")
    options = {
        "Dir::Etc::SourceList": folder / "apt/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": folder / "apt",
        "Dir::State::status": folder / "apt/status",
        "Dir::Cache": folder / "apt/cache",
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    sources.mkdir(exist_ok=True)
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "source", "--download-only", "git"], check=True, cwd=sources)
    (archive,) = sources.glob("git_*.orig.tar.xz")
    subprocess.run(["tar", "xf", archive.name, "--strip-components=1"], check=True, cwd=sources)
    return sources


def build(sources: Path) -> None:
    """Build them, once, and keep the receive-pack that was built aside."""
    if not (sources / "bin-wrappers/git").exists():
        subprocess.run(["make", "-s", "-j2", *WITHOUT, "all"], check=True, cwd=sources)
    original = sources / "git-receive-pack"
    if not original.with_suffix(".original").exists():
        original.rename(original.with_suffix(".original"))


def ssh_config(folder: Path, name: str, port: int, key: Path, known_hosts: Path) -> Path:
    path = folder / f"{name}.ssh_config"
    path.write_text(
        f"Host server\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
        f"  IdentityAgent none\n  BatchMode yes\n  UserKnownHostsFile {known_hosts}\n  LogLevel ERROR\n"
    )
    return path


@contextmanager
def this_server(folder: Path, key: Path) -> Iterator[Path]:
    """Run the front door of these tests; yield the configuration for ssh."""
    host_key.make_or_load(folder / "host_key")
    public = host_key.load(folder / "host_key")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener, (folder / "door.log").open("wb") as log:
        port = listener.getsockname()[1]
        words = [sys.executable, "-m", "tests.suites.git_front_door", str(listener.fileno())]
        process = subprocess.Popen(
            [*words, str(folder / "host_key"), str(key.with_suffix(".pub"))],
            pass_fds=[listener.fileno()], cwd=ROOT, stderr=log,
        )  # fmt: skip
    known = folder / "door.known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {public.get_name()} {public.get_base64()}\n")
    try:
        yield ssh_config(folder, "door", port, key, known)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def openssh(folder: Path, key: Path) -> Iterator[Path]:
    """Run an OpenSSH server with the machine's git; yield the configuration for ssh."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "sshd_key")], check=True)
    keys = folder / "authorized_keys"
    keys.write_text(key.with_suffix(".pub").read_text())
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/sshd_key\nAuthorizedKeysFile {keys}\nStrictModes no\n"
        "UsePAM no\nPidFile none\nPermitRootLogin yes\nMaxStartups 1000\n"
    )
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if sshd is None:
        raise SystemExit("sshd is not installed; install openssh-server")
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([sshd, "-D", "-f", str(config), "-E", str(folder / "sshd.log")])
    known = folder / "sshd.known_hosts"
    known.write_text(f"[127.0.0.1]:{port} " + (folder / "sshd_key.pub").read_text())
    try:
        yield ssh_config(folder, "sshd", port, key, known)
    finally:
        process.terminate()
        process.wait(30)


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
    sources = fetch(options.work.resolve())
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
