"""The Git endpoints that are compared: this server as it is served, OpenSSH with git, and a path on this machine.

Each gets a repository by name and says where it lies, so that a case can prepare it in the same way for all. All are
asked by the same ssh and git programs, with the same key.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

START_SECONDS = 30.0
"""How long a server may take until it answers."""

DEBIAN = ("UsePAM yes", "X11Forwarding yes", "PrintMotd no", "KbdInteractiveAuthentication no")
"""What Debian's sshd_config says; everything else is OpenSSH's own default."""

TUNED = (
    *DEBIAN,
    # The second is the name by which paramiko, which prepares some cases, knows the first.
    "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org",
    "Ciphers aes128-gcm@openssh.com",
)
"""OpenSSH without its costly post-quantum key exchange, and with the cipher that is fastest on most machines."""


class Endpoint(Protocol):
    """Somewhere to push to."""

    name: str

    def repository(self, name: str) -> Path:
        """Make an empty bare repository and return its folder."""

    def url(self, repository: Path) -> str:
        """Return the address for git."""

    def environment(self) -> dict[str, str]:
        """Return the environment for git."""


@dataclass
class Local:
    """The floor: git pushes to a path, with neither encryption nor a network."""

    folder: Path
    name: str = "path"

    def repository(self, name: str) -> Path:
        """Make an empty bare repository."""
        return init_bare(self.folder / f"{name}.git")

    def url(self, repository: Path) -> str:
        """Return the path as a URL, over which git does not take its short cuts for clones."""
        return f"file://{repository}"

    def environment(self) -> dict[str, str]:
        """Return the environment for git."""
        return git_environment()


@dataclass
class _OverSsh:
    """What servers over SSH have in common."""

    folder: Path
    name: str
    port: int = 0
    user: str = field(default_factory=getpass.getuser)
    process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> Path:
        """The client's private key."""
        return self.folder / "client_key"

    def ssh(self, port: int | None = None) -> list[str]:
        """Return the words that connect, without the command; `port` is that of a relay."""
        return [
            "ssh", "-F", "none", "-p", str(port or self.port), "-i", str(self.key),
            "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", f"{self.user}@127.0.0.1",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return the environment for git."""
        return git_environment() | {"GIT_SSH_COMMAND": " ".join(self.ssh()[:-1])}

    def stop(self) -> None:
        """Stop the server."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)


class Slipway(_OverSsh):
    """This server: `slipway serve` on a data folder of its own, front doors and engine room as anybody runs them.

    No Docker engine is needed, since the cases push to branches that do not deploy.
    """

    api: str = ""
    """Where HTTP is answered, HOST:PORT."""

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.user = "git"
        make_key(self.key)
        data = self.folder / "data"
        program = [sys.executable, "-m", "console.program"]
        words = ["init", "--data", str(data), "--admin-key", f"{self.key}.pub", "--admin-name", "bench"]
        subprocess.run([*program, *words], check=True, stdout=subprocess.DEVNULL)
        with (self.folder / "log").open("wb") as log:
            words = ["serve", "--data", str(data), "--ssh", "127.0.0.1:0", "--api", "127.0.0.1:0"]
            self.process = subprocess.Popen([*program, *words], stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b"ready "):
                self.port = int(line.split()[1].rpartition(b":")[2])
                self.api = line.split()[2].removeprefix(b"api=").decode()
                return
        raise RuntimeError(f"slipway did not start; see {self.folder / 'log'}")

    def stop(self) -> None:
        """Stop the server, and the proxy, which would go on without it."""
        super().stop()
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((self.folder / "data/proxy/haproxy.pid").read_text().split()[0]), signal.SIGTERM)

    def repository(self, name: str) -> Path:
        """Create an app, and return its repository."""
        repositories = self.folder / "data" / "repositories"
        before = set(repositories.iterdir())
        subprocess.run([*self.ssh(), "apps:create", name], check=True, stdout=subprocess.DEVNULL)
        (made,) = set(repositories.iterdir()) - before
        (made / "app").write_text(name)
        return made

    def url(self, repository: Path) -> str:
        """Return the app's address."""
        return f"ssh://git@127.0.0.1:{self.port}/{(repository / 'app').read_text()}.git"


@dataclass
class OpenSsh(_OverSsh):
    """sshd with git-receive-pack and git-upload-pack. `lines` go into its configuration."""

    lines: tuple[str, ...] = DEBIAN

    def start(self) -> None:
        """Start it and wait until it answers. Needs the openssh-server package."""
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("sshd is not installed: apt-get install openssh-server")
        make_key(self.key)
        make_key(self.folder / "host_key")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        # Where it keeps its unprivileged half; a service unit would have made it.
        Path("/run/sshd").mkdir(exist_ok=True)
        config = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.folder / 'host_key'}", "StrictModes no",
            f"AuthorizedKeysFile {self.key}.pub", f"PidFile {self.folder / 'pid'}",
            # Its defaults would throttle the case of many at once, which is not what is compared.
            "MaxStartups 100:30:200",
            # bash reads the user's ~/.bashrc for each command of sshd, and that may take longer than a push.
            "SetEnv HOME=/nonexistent", *self.lines,
        ]  # fmt: skip
        (self.folder / "sshd_config").write_text("\n".join(config) + "\n")
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen([program, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run([*self.ssh(), "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start; see {self.folder / 'log'}")
            time.sleep(0.1)

    def repository(self, name: str) -> Path:
        """Make an empty bare repository."""
        return init_bare(self.folder / f"{name}.git")

    def url(self, repository: Path) -> str:
        """Return the repository's address."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{repository}"


def git_environment() -> dict[str, str]:
    """Return an environment in which nobody's configuration counts."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "bench@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }


def init_bare(folder: Path) -> Path:
    """Make an empty bare repository at `folder` and return it."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    return folder


def make_key(path: Path) -> None:
    """Make a key pair."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
