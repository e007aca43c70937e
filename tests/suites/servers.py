"""The servers that other people's tests are run against: this one's front door for tests, and OpenSSH with git."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitserver import host_key

ROOT = Path(__file__).parents[2]


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


def ssh_setting(config: Path, name: str) -> str:
    """Return a setting of a configuration that `ssh_config` wrote."""
    words = (line.split() for line in config.read_text().splitlines())
    return next(value for word, value in words if word == name)
