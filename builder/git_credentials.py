"""The app's credentials for Git servers that its submodules lie on.

One line for each host, in the form of Git's own `.git-credentials` file (git-credential-store(1), "STORAGE FORMAT"):
`https://USER:PASSWORD@HOST`, special characters percent-encoded.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from store.errors import SlipwayError
from store.secret import Secret

VARIABLE = "SLIPWAY_GIT_CREDENTIALS"
"""Config variable."""


class GitCredentialsError(SlipwayError):
    """The app's Git credentials cannot be read. Nothing was fetched or built."""


def parse(config: Mapping[str, Secret]) -> dict[str, Secret]:
    """Return the value of the `Authorization` header (RFC 7617) by `HOST` or `HOST:PORT`.

    Raises GitCredentialsError for a line that is none.
    """
    stored = config.get(VARIABLE)
    found: dict[str, Secret] = {}
    for number, line in enumerate((stored.reveal() if stored else "").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            parts = urlsplit(line.strip())
            user, password, port = parts.username, parts.password, parts.port
        except ValueError:
            user = password = port = None
        if parts.scheme != "https" or not parts.hostname or not user or not password:
            # The line is a secret, so it is not quoted.
            raise GitCredentialsError(
                f"Line {number} of {VARIABLE} cannot be read; write https://USER:PASSWORD@HOST, with special "
                "characters percent-encoded."
            )
        login = f"{unquote(user)}:{unquote(password)}".encode()
        host = parts.hostname if port is None else f"{parts.hostname}:{port}"
        found[host] = Secret(f"Basic {base64.b64encode(login).decode()}")
    return found
