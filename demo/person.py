"""Somebody at a keyboard: a home folder, an SSH key, a Git identity, and nothing of the machine's own user.

Real `git` and `ssh` clients run in this home. OpenSSH takes the home folder from the password database instead of
`HOME`, so a small `ssh` at the front of the person's PATH names the configuration; whoever types `ssh` or `git push`
there types exactly what a user would.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.root_filesystem import SYSTEM_PATH
from store.errors import SlipwayError

HOST = "slipway"
"""The server's name in the person's SSH configuration, so that `ssh slipway` and `slipway:app.git` reach it."""

_PATIENCE_SECONDS = 300.0
"""When a command counts as stuck. A build on a busy machine may take a minute."""

_SSH_CONFIGURATION = """\
Host {name}
  HostName {host}
  Port {port}
  User git
Host *
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  BatchMode yes
"""


class HostKeyError(SlipwayError):
    """No server answers, or not the one whose fingerprint was given. Nothing was sent to it."""


class Person:
    """A user of the server, at a machine of their own."""

    def __init__(self, home: Path, name: str) -> None:
        """Make a home folder with a new ed25519 key in it."""
        self.home = home
        self.name = name
        self._ssh = home / ".ssh"
        self._ssh.mkdir(parents=True, mode=0o700)
        self.key = self._ssh / "id_ed25519"
        self.public_key = self._ssh / "id_ed25519.pub"
        self.known_hosts = self._ssh / "known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.key], check=True)
        self._write_configuration("127.0.0.1", 22)
        self._put_ssh_first()
        (home / ".gitconfig").write_text(
            f"[user]\n\tname = {name}\n\temail = {name}@example.com\n[init]\n\tdefaultBranch = master\n"
            "[advice]\n\tdetachedHead = false\n"
        )
        docker = home / ".docker"
        docker.mkdir()
        (docker / "config.json").write_text("{}")  # without it, Docker clients would look for the machine user's
        self.environment = {
            "HOME": str(home),
            "PATH": f"{home}/bin:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "DOCKER_CONFIG": str(docker),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }

    def trust(self, host: str, port: int, fingerprint: str) -> None:
        """Make a server known as `slipway`, if the key it shows has the `fingerprint` (`SHA256:…`) that it printed.

        Raises HostKeyError.
        """
        keys = self.run(["ssh-keyscan", "-p", str(port), "-t", "ed25519", host]).stdout
        if not keys:
            raise HostKeyError(f"{host}:{port} shows no host key; look into the server's log")
        shown = self.run(["ssh-keygen", "-lf", "-"], stdin=keys).stdout
        if fingerprint not in shown.split():
            raise HostKeyError(f"{host}:{port} shows the host key '{shown.strip()}' instead of {fingerprint}")
        self.known_hosts.write_text(keys)
        self._write_configuration(host, port)

    def run(
        self,
        words: Sequence[str | Path],
        *,
        folder: Path | None = None,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the home folder, or in `folder`, to its end; `environment` adds to the person's own."""
        return subprocess.run(
            words,
            cwd=folder or self.home,
            env={**self.environment, **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )

    def ssh(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a user command on the server; each word arrives there as one word."""
        return self.run(["ssh", HOST, shlex.join(words)], stdin=stdin)

    def _write_configuration(self, host: str, port: int) -> None:
        text = _SSH_CONFIGURATION.format(
            name=HOST, host=host, port=port, key=_quoted(self.key), known_hosts=_quoted(self.known_hosts)
        )
        (self._ssh / "config").write_text(text)

    def _put_ssh_first(self) -> None:
        folder = self.home / "bin"
        folder.mkdir()
        real = shutil.which("ssh", path=SYSTEM_PATH) or "/usr/bin/ssh"
        wrapper = folder / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {real} -F {shlex.quote(os.fspath(self._ssh / "config"))} "$@"\n')
        wrapper.chmod(0o755)


def _quoted(path: Path) -> str:
    """Return a path as one argument of ssh_config(5)."""
    return f'"{path}"'
