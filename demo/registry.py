"""A private registry with a password: Debian's `docker-registry` on the loopback address.

It keeps its images in a folder that is thrown away with it. On 127.0.0.0/8 an engine talks to it without TLS (Docker's
"insecure registries" default).
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import bcrypt  # comes with paramiko
import docker

from demo.process import Process, ProgramError
from store.errors import SlipwayError
from store.secret import Secret

_CONFIGURATION = """\
version: 0.1
log:
  level: info
  fields: {{service: registry}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:0
  secret: {secret}
auth:
  htpasswd: {{realm: private, path: {htpasswd}}}
"""
"""The registry's own format (distribution, "Configuring a registry"). Port 0: the kernel chooses a free one."""

_BCRYPT_ROUNDS = 4
"""The cheapest: the registry verifies the password at every request, and this one is random and lives for one run."""


class PushError(SlipwayError):
    """An image could not be pushed. The registry may hold some of its layers, but no image of that name."""


class Registry:
    """One registry and the one account that may use it; running inside a `with` block."""

    def __init__(self, folder: Path, engine: str, username: str = "deploy") -> None:
        """Prepare a registry in `folder`; `engine` is the URL of the engine whose images `push` sends here."""
        self.username = username
        self.password = Secret(secrets.token_urlsafe(16))
        self.host = ""
        """HOST:PORT as it stands in an image's name, while the registry runs."""
        self.log = folder / "registry.log"
        self._folder = folder
        self._engine = engine

    def __enter__(self) -> Registry:
        program = shutil.which("docker-registry")
        if program is None:
            raise ProgramError("there is no docker-registry here; install the Debian package of that name")
        self._folder.mkdir(parents=True, exist_ok=True)
        htpasswd = self._folder / "htpasswd"
        digest = bcrypt.hashpw(self.password.reveal().encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()
        htpasswd.write_text(f"{self.username}:{digest}\n")
        configuration = self._folder / "registry.yml"
        configuration.write_text(
            _CONFIGURATION.format(
                storage=_quoted(self._folder / "storage"), htpasswd=_quoted(htpasswd), secret=secrets.token_hex(16)
            )
        )
        self._process = Process([program, "serve", configuration], log=self.log, environment={})
        self.host = self._process.wait_for(r"listening on (127\.0\.0\.1:\d+)")[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def push(self, image: str, name: str) -> str:
        """Push the engine's `image` as `name` (`repository` or `repository:tag`) and return its full reference.

        The engine keeps `image`, but not the reference, so it has to be pulled with the password from then on. Raises
        PushError.
        """
        repository, _, tag = name.partition(":")
        tag = tag or "latest"
        account = {"username": self.username, "password": self.password.reveal()}
        repository = f"{self.host}/{repository}"
        reference = f"{repository}:{tag}"
        with docker.APIClient(self._engine) as engine:
            engine.tag(image, repository, tag)
            try:
                # The account goes along with this one request: no login, and nobody's ~/.docker is asked.
                for event in engine.push(repository, tag, stream=True, decode=True, auth_config=account):
                    if "error" in event:
                        raise PushError(f"{reference} could not be pushed: {event['error']}")
            finally:
                engine.remove_image(reference, noprune=True)
        return reference


def _quoted(path: Path) -> str:
    """Return a path as a YAML single-quoted scalar (YAML 1.2, 7.3.2)."""
    return "'" + str(path).replace("'", "''") + "'"
