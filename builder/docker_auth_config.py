"""`DOCKER_AUTH_CONFIG`: logins for several registries, in the form of `~/.docker/config.json`.

Known from GitLab CI. Only `auths` counts (docker/cli, cli/config/configfile): by registry, either `auth`, the base64 of
`user:password`, or `username` and `password`.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from builder.login import Credentials, CredentialsError, registry_host
from store.secret import Secret

VARIABLE = "DOCKER_AUTH_CONFIG"


class AuthConfigError(CredentialsError):
    """The value is no Docker config."""


def parse(value: Secret) -> dict[str, Credentials]:
    """Return the credentials by registry host. Raises AuthConfigError, which quotes nothing but a host's name."""
    try:
        config: Any = json.loads(value.reveal())
    except (ValueError, RecursionError):
        raise AuthConfigError(f'{VARIABLE} is not JSON; it has to look like {{"auths": {{"HOST": …}}}}') from None
    auths = config.get("auths") if isinstance(config, dict) else None
    if not isinstance(auths, dict):
        raise AuthConfigError(f'{VARIABLE} has no "auths"; it has to look like {{"auths": {{"HOST": …}}}}')
    return {registry_host(host): _credentials(host, entry) for host, entry in auths.items() if entry != {}}


def _credentials(host: str, entry: object) -> Credentials:
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    username, password = fields.get("username"), fields.get("password")
    auth = fields.get("auth")
    if isinstance(auth, str) and auth:
        try:
            username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon:
            raise AuthConfigError(f'The "auth" of {_shown(host)} in {VARIABLE} is not the base64 of user:password')
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        raise AuthConfigError(
            f'{_shown(host)} in {VARIABLE} has neither "auth" nor "username" and "password"; '
            "identity tokens are not supported"
        )
    where = f"{VARIABLE} for {_shown(host)}"
    return Credentials(
        Secret(username), Secret(password.rstrip("\0")), f"the user in {where}", f"the password in {where}"
    )


def _shown(host: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in host[:100])
