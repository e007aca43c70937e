"""Which credentials an operation shows to which registry: per host, the most specific that the app has.

1. `APTIBLE_PRIVATE_REGISTRY_USERNAME` and `_PASSWORD`, if `APTIBLE_PRIVATE_REGISTRY_HOST` names this host;
2. the host's entry in `DOCKER_AUTH_CONFIG` (builder.docker_auth_config);
3. for Amazon ECR, a token fetched with the app's AWS keys (builder.ecr);
4. `APTIBLE_PRIVATE_REGISTRY_USERNAME` and `_PASSWORD` without a host, for every registry that a build names;
5. what the server's own credential helper has for the host (builder.credential_helper).

An empty string is the same as not set.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from builder import credential_helper, docker_auth_config, ecr, git_credentials
from builder.login import Credentials, CredentialsError, registry_host
from store.secret import Secret

__all__ = ["HOST", "PASSWORD", "REGISTRY_VARIABLES", "USERNAME", "Credentials", "RegistryCredentials", "from_config"]

USERNAME = "APTIBLE_PRIVATE_REGISTRY_USERNAME"
PASSWORD = "APTIBLE_PRIVATE_REGISTRY_PASSWORD"  # noqa: S105 -- the variable's name
HOST = "APTIBLE_PRIVATE_REGISTRY_HOST"

REGISTRY_VARIABLES: frozenset[str] = frozenset(
    {USERNAME, PASSWORD, HOST, docker_auth_config.VARIABLE, git_credentials.VARIABLE, *ecr.OWN_VARIABLES}
)
"""Config variables that are for getting at images and submodules, and never reach a container or a build context."""


class CredentialsIncompleteError(CredentialsError):
    """One half of a user name and a password is set."""


@dataclass(frozen=True)
class Pair:
    """A user name and a password, for one registry host or for all."""

    credentials: Credentials
    only_host: str | None = None


class RegistryCredentials:
    """All that an app's config, and the server, say about registries. Threads may share it."""

    def __init__(
        self,
        pair: Pair | None = None,
        by_host: Mapping[str, Credentials] | None = None,
        keys: ecr.Keys | None = None,
        helper: str | None = None,
    ) -> None:
        self._pair = pair
        self._by_host = dict(by_host or {})
        self._keys = keys
        self._helper = helper
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._fetched: dict[str, Credentials | None] = {}

    def for_host(self, host: str) -> Credentials | None:
        """Return what to show to a registry, named as in an image reference. It may ask AWS or a helper, once a host.

        Raises CredentialsError if those do not answer.
        """
        if self._pair and self._pair.only_host == host:
            return self._pair.credentials
        if host in self._by_host:
            return self._by_host[host]
        everywhere = self._pair.credentials if self._pair and self._pair.only_host is None else None
        if self._keys and (region := ecr.region(host)):
            keys = self._keys
            try:
                return self._once(host, lambda: ecr.token(keys, region))
            except CredentialsError:
                # Keys that the app has for something else need not be allowed to use ECR.
                if keys.for_ecr or not everywhere:
                    raise
        if everywhere or not self._helper:
            return everywhere
        helper = self._helper
        return self._once(host, lambda: credential_helper.get(helper, host))

    def _once(self, host: str, fetch: Callable[[], Credentials | None]) -> Credentials | None:
        with self._lock:
            fetching = self._fetching.setdefault(host, threading.Lock())
        with fetching:
            if host not in self._fetched:
                self._fetched[host] = fetch()
            return self._fetched[host]


def from_config(config: Mapping[str, Secret], helper: str | None = None) -> RegistryCredentials:
    """Read the registry variables of an app's config; `helper` names the server's credential helper.

    Raises CredentialsError for what is incomplete or cannot be read.
    """
    auth_config = config.get(docker_auth_config.VARIABLE) or None
    return RegistryCredentials(
        _pair(config),
        docker_auth_config.parse(auth_config) if auth_config else {},
        ecr.keys(config),
        helper,
    )


def _pair(config: Mapping[str, Secret]) -> Pair | None:
    username, password, host = (config.get(name) or None for name in (USERNAME, PASSWORD, HOST))
    if username and password:
        credentials = Credentials(username, password, f"the user in {USERNAME}", f"the password in {PASSWORD}")
        return Pair(credentials, registry_host(host.reveal()) if host else None)
    if username or password:
        there, missing = (USERNAME, PASSWORD) if username else (PASSWORD, USERNAME)
        raise CredentialsIncompleteError(
            f"{there} is set but {missing} is not; set both, or unset both with config:unset"
        )
    return None
