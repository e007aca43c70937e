"""A user name and a password for one registry, and what can be told about them without asking it."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from builder.reference import DOCKER_HUB, DOCKER_HUB_REGISTRY
from store.errors import SlipwayError
from store.secret import Secret


class CredentialsError(SlipwayError):
    """Registry credentials cannot be read or fetched; nothing was built or changed."""


@dataclass(frozen=True)
class Credentials:
    """A user name and a password for one registry host. The name is kept as quietly as the password."""

    username: Secret
    password: Secret
    who: str = "the user"
    """For people: where the user name comes from."""
    what: str = "the password"
    """For people: where the password comes from."""

    @property
    def expired_at(self) -> datetime | None:
        """When the password expired, if it is a token that says so itself and the moment is past.

        Tokens of Amazon ECR are base64 of a JSON object with an `expiration`; those of other clouds are JSON Web
        Tokens, whose second part has an `exp` (RFC 7519, section 4.1.4). Both are in seconds since 1970.
        """
        password = self.password.reveal()
        for part in (password, *password.split(".")[1:2]):
            claims = _json_of(part)
            moment = claims.get("expiration", claims.get("exp"))
            if isinstance(moment, (int, float)) and 0 < moment < datetime.now(UTC).timestamp():
                return datetime.fromtimestamp(moment, UTC)
        return None


def _json_of(text: str) -> dict[str, object]:
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        claims = json.loads(base64.b64decode(padded.translate(bytes.maketrans(b"-_", b"+/")), validate=True))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def registry_host(text: str) -> str:
    """Return a host as references name it; people paste addresses with a scheme, or Docker Hub's other names."""
    host = text.strip().lower().removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in ("index.docker.io", DOCKER_HUB_REGISTRY) else host
