"""libgit2's own tests of pushing, against this server and OpenSSH with git: `python -m tests.suites.libgit2`.

Debian's source package of libgit2 is fetched and built in a folder of its own (the first time; some minutes). It speaks
SSH by libssh2, and reads Git's protocol in another way than git does. It takes apt-get, cmake, a compiler, the headers
of libssh2, http-parser and zlib (libssh2-1-dev, libhttp-parser-dev, zlib1g-dev), sshd and ssh.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.suites.debian_source import fetch
from tests.suites.servers import openssh, ssh_setting, this_server

RELEASE = "trixie"
"""Debian's release whose libgit2 it is: the first whose tests of pushing include push options."""

SETTINGS = {
    "USE_SSH": "libssh2",
    "USE_HTTPS": "OFF",
    "USE_NTLMCLIENT": "OFF",
    "USE_HTTP_PARSER": "http-parser",
    "REGEX_BACKEND": "regcomp",
    "BUILD_CLI": "OFF",
    "BUILD_SHARED_LIBS": "OFF",
}
"""What the package leaves out of the sources comes from the machine; what pushing does not need is left out."""

SUITE = "online::push"

HOOK = "tests/resources/pushoptions.git/hooks/pre-receive"
"""What libgit2 wants to run at the server: it shows which push options have come."""

SECONDS = 300
"""How long all tests of a server may take: a client that waits for good is a failure, and not a wait."""


def build(sources: Path) -> Path:
    """Build libgit2's tests, once, and return the program."""
    folder = sources / "build"
    program = folder / "libgit2_tests"
    if not program.exists():
        folder.mkdir(exist_ok=True)
        words = ["cmake", "..", *(f"-D{name}={value}" for name, value in SETTINGS.items())]
        subprocess.run(words, check=True, cwd=folder)
        subprocess.run(["make", "-s", "-j2", "libgit2_tests"], check=True, cwd=folder)
    return program


def run(program: Path, folder: Path, config: Path, key: Path) -> dict[str, bool]:
    """Run the tests against the server that `config` leads to, and tell of each whether it passed."""
    repository = folder / f"{config.stem}.git"
    subprocess.run(["git", "init", "-q", "--bare", str(repository)], check=True)
    # As the tests themselves ask for (tests/libgit2/online/push.c, initialize).
    for name, value in (("receive.denyDeleteCurrent", "ignore"), ("receive.advertisePushOptions", "true")):
        subprocess.run(["git", "--git-dir", str(repository), "config", name, value], check=True)
    hook = shutil.copy(program.parents[1] / HOOK, repository / "hooks")
    Path(hook).chmod(0o755)
    home = folder / f"{config.stem}.home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/known_hosts").write_bytes(Path(ssh_setting(config, "UserKnownHostsFile")).read_bytes())
    try:
        done = subprocess.run(
            [str(program), "-t", f"-s{SUITE}"],
            env={
                **os.environ,
                "CLAR_HOMEDIR": str(home),
                "GITTEST_REMOTE_URL": f"ssh://root@127.0.0.1:{ssh_setting(config, 'Port')}{repository}",
                "GITTEST_REMOTE_USER": "root",
                "GITTEST_REMOTE_SSH_KEY": str(key),
                "GITTEST_REMOTE_SSH_PUBKEY": f"{key}.pub",
                "GITTEST_REMOTE_SSH_PASSPHRASE": "",
                "GITTEST_PUSH_OPTIONS": "true",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=SECONDS,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace")
    (folder / f"{config.stem}.output").write_text(output)
    return {name: ok == "ok" for ok, name in re.findall(rf"^(ok|not ok) \d+ - {SUITE}::(\w+)$", output, re.MULTILINE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "libgit2", help="keeps the build")
    parser.add_argument("--show", action="store_true", help="show what the tests of this server print")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    program = build(fetch("libgit2", options.work.resolve(), RELEASE))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        key = folder / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        with this_server(folder, key) as ours, openssh(folder, key) as theirs:
            mine, reference = run(program, folder, ours, key), run(program, folder, theirs, key)
        if options.show:
            print((folder / f"{ours.stem}.output").read_text())
    tests = len(mine.keys() | reference.keys())
    print("| suite | this server | OpenSSH with git |\n|---|---|---|")
    print(f"| {SUITE} | {sum(mine.values())} of {tests} | {sum(reference.values())} of {tests} |")
    failures = sorted(name for name, passed in reference.items() if passed and not mine.get(name))
    print("\nPass there and fail here:", *(failures or ["none"]), sep="\n- ")


if __name__ == "__main__":
    main()
