"""Registry credentials out of an app's config, and which registry may see them.

`APTIBLE_PRIVATE_REGISTRY_USERNAME` and `_PASSWORD` are for every registry that a build names; with
`APTIBLE_PRIVATE_REGISTRY_HOST` only for that one. An empty string is the same as not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.reference import DOCKER_HUB, DOCKER_HUB_REGISTRY
from store.errors import SlipwayError
from store.secret import Secret

USERNAME = "APTIBLE_PRIVATE_REGISTRY_USERNAME"
PASSWORD = "APTIBLE_PRIVATE_REGISTRY_PASSWORD"  # noqa: S105 -- the variable's name
HOST = "APTIBLE_PRIVATE_REGISTRY_HOST"

REGISTRY_VARIABLES: frozenset[str] = frozenset({USERNAME, PASSWORD, HOST})
"""Config variables that are for pulling images and never reach a container or a build context."""

REMEDY = (
    f"Set {USERNAME} and {PASSWORD} with config:set, or with deploy --private-registry-username and "
    "--private-registry-password if they are valid for hours only."
)
"""What to do about credentials, the last sentence of every error that they cause."""


class CredentialsIncompleteError(SlipwayError):
    """One half of a user name and a password is set."""


@dataclass(frozen=True)
class Credentials:
    """A user name and a password for one registry host. The name is kept as quietly as the password."""

    username: Secret
    password: Secret


@dataclass(frozen=True)
class RegistryCredentials:
    """All that an app's config says about registries."""

    everywhere: Credentials | None = None
    only_host: str | None = None
    """The one host that may see the credentials, or None for every host that the build names."""

    def for_host(self, host: str) -> Credentials | None:
        """Return what to show to a registry, named as in an image reference."""
        return self.everywhere if self.only_host in (None, host) else None


def from_config(config: Mapping[str, Secret]) -> RegistryCredentials:
    """Read the registry variables of an app's config.

    Raises CredentialsIncompleteError if a user name stands without a password or the other way round.
    """
    username, password, host = (config.get(name) or None for name in (USERNAME, PASSWORD, HOST))
    if username and password:
        return RegistryCredentials(Credentials(username, password), _host(host.reveal()) if host else None)
    if username or password:
        there, missing = (USERNAME, PASSWORD) if username else (PASSWORD, USERNAME)
        raise CredentialsIncompleteError(
            f"{there} is set but {missing} is not; set both, or unset both with config:unset"
        )
    return RegistryCredentials()


def _host(text: str) -> str:
    """Return a host as references name it; people paste addresses with a scheme, or Docker Hub's other names."""
    host = text.strip().lower().removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in ("index.docker.io", DOCKER_HUB_REGISTRY) else host
