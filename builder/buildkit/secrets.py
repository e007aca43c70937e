"""`RUN --mount=type=secret`: the app's config variables, each offered under its own name.

BuildKit's cache of steps is one for all apps, and it knows a secret by its id alone. Under the plain name, the step of
an app without the secret would be answered with the layer that another app's secret made, and a changed secret would
change nothing. So a secret's id, as BuildKit sees it, is made of the app's own key, the name and the value; it tells
nothing about either.
"""

from __future__ import annotations

import hmac
import posixpath
from collections.abc import Mapping

from builder.dockerfile import Dockerfile, DockerfileError, Instruction, mount_fields
from store.secret import Secret

FOLDER = "/run/secrets"
"""Where a secret lies that names no target (Dockerfile reference, "RUN --mount=type=secret")."""


class SecretMounts:
    """The secrets that one Dockerfile asks for."""

    def __init__(self, file: Dockerfile, config: Mapping[str, Secret], cache_key: Secret) -> None:
        """Raises DockerfileError for a mount that cannot be read with certainty."""
        self._config = config
        self._key = cache_key.reveal().encode()
        self._of_app = hmac.digest(self._key, b"cache mounts of this app", "sha256").hex()
        self.by_id: dict[str, Secret] = {}
        """What BuildKit may have."""
        self.names: dict[str, str] = {}
        """For people: the variable behind each id."""
        for instruction in file.instructions:
            if instruction.keyword == "run":
                self.flags(instruction)

    def flags(self, run: Instruction) -> list[str]:
        """Return a RUN's options, with secrets under the ids that BuildKit knows."""
        flags = [self._flag(flag, run.line) for flag in run.flags]
        if any((mount_fields(flag) or {}).get("type", "").lower() == "cache" for flag in run.flags):
            # The same step over another app's cache mount is another step; BuildKit of Docker 23 and newer answers it
            # with that app's layer. A secret that nobody has is not mounted, and makes the difference.
            flags.append(f"--mount=type=secret,id={self._of_app}")
        return flags

    def _flag(self, flag: str, line: int) -> str:
        fields = mount_fields(flag)
        if fields is None or fields.get("type", "").lower() != "secret":
            return flag
        if any("$" in fields.get(key, "") for key in ("id", "source", "src")):
            raise DockerfileError(line, "the id of a secret cannot have a variable; write the name itself")
        target = fields.get("target") or fields.get("dst") or fields.get("destination")
        name = fields.get("source") or fields.get("src") or fields.get("id") or posixpath.basename(target or "")
        if not name:
            raise DockerfileError(line, "RUN --mount=type=secret needs an id, the name of a config variable")
        fields = {key: value for key, value in fields.items() if key not in ("id", "source", "src")}
        if target is None and "env" not in fields:
            fields["target"] = f"{FOLDER}/{posixpath.basename(name)}"
        fields["id"] = self._id(name)
        return "--mount=" + ",".join(f"{key}={value}" if value else key for key, value in fields.items())

    def _id(self, name: str) -> str:
        secret = self._config.get(name)
        # A variable that is not set is another input than every value of it.
        told = f"{name}\0" + ("" if secret is None else f"={secret.reveal()}")
        identity = hmac.digest(self._key, told.encode(), "sha256").hex()
        self.names[identity] = name
        if secret is not None:
            self.by_id[identity] = secret
        return identity
