"""A Docker credential helper of the server's: a program that knows logins for registries.

The protocol is that of github.com/docker/docker-credential-helpers: `docker-credential-NAME get` reads a
registry's name from standard input and answers with a JSON object. What it knows is for all apps of this server.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from builder.login import Credentials, CredentialsError
from builder.reference import DOCKER_HUB
from store.secret import Secret

ANSWER_SECONDS = 20
DOCKER_HUB_NAME = "https://index.docker.io/v1/"
"""What helpers, like Docker's own config, call Docker Hub."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_NOT_FOUND = "credentials not found"
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 -- the user name that stands for "this is a token"


class CredentialHelperError(CredentialsError):
    """The server's credential helper does not answer as one does."""


def get(helper: str, host: str) -> Credentials | None:
    """Ask the helper `docker-credential-HELPER` for a registry host, None if it knows nothing about it.

    Raises CredentialHelperError.
    """
    program = f"docker-credential-{helper}"
    asked = DOCKER_HUB_NAME if host == DOCKER_HUB else host
    try:
        done = subprocess.run(
            [program, "get"], input=asked, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
        if done.returncode and _NOT_FOUND in done.stdout + done.stderr:
            return None
        answer: Any = json.loads(done.stdout) if done.returncode == 0 else None
        username, password = answer["Username"], answer["Secret"]
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError, KeyError):
        # Nothing of its output is quoted: it may be the secret.
        raise CredentialHelperError(
            f"The server's credential helper {program} gave no login for {host}; its administrator has to mend that."
        ) from None
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        return None
    if username == _IDENTITY_TOKEN_USER:
        raise CredentialHelperError(
            f"The server's credential helper {program} has an identity token for {host}, which is not supported; "
            "a user name and a password are."
        )
    return Credentials(Secret(username), Secret(password), f"the user from {program}", f"the password from {program}")
