"""Connections to registries: whom they trust, how long they wait, and what of this machine's settings they use.

TLS is as strict as the engine's, so that both reach the same registries: certificates are checked against the machine's
authorities and those that the engine has for a registry; on loopback, where nobody can listen, there need be none.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from builder.interruption import InterruptibleSession
from store.errors import SlipwayError

CERTIFICATES = Path("/etc/docker/certs.d")
"""Where the engine itself looks for a registry's certificate authority, `HOST:PORT/*.crt`."""
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
"""A registry that is silent for longer counts as unreachable; token services of clouds take a few seconds."""


class AuthorityError(SlipwayError):
    """A certificate authority that the engine has for a registry cannot be used. Nothing was built or changed."""


def is_loopback(host: str) -> bool:
    """Tell whether a registry host is 127.0.0.0/8 or localhost, where the engine needs no TLS."""
    name = host.rpartition(":")[0] if ":" in host else host
    if name == "localhost":
        return True
    try:
        return ipaddress.IPv4Address(name).is_loopback
    except ValueError:
        return False


def is_safe(url: str) -> bool:
    """Tell whether what is sent to `url` can be read by nobody else."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    )


def proxies(url: str) -> dict[str, str]:
    """Return the proxies of the environment, so that nothing else of it (`~/.netrc` above all) is used."""
    return {} if is_loopback(urlsplit(url).hostname or "") else dict(get_environ_proxies(url))


class _TlsAdapter(HTTPAdapter):
    """Checks certificates against the machine's authorities and those that the engine has for this registry."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._context, **options)


class _Session(InterruptibleSession):
    """A session whose requests never wait for ever."""

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = (CONNECT_SECONDS, READ_SECONDS)
        return super().request(*arguments, **options)


def open_session(host: str) -> InterruptibleSession:
    """Return a session, to be closed, that trusts for the registry at `host` whom the engine trusts.

    Raises AuthorityError if a certificate authority of that registry cannot be read.
    """
    made = _Session()
    made.trust_env = False
    if is_loopback(host):
        made.verify = False
    else:
        context = ssl.create_default_context()
        for authority in sorted((CERTIFICATES / host).glob("*.crt")):
            try:
                context.load_verify_locations(authority)
            except OSError:
                raise AuthorityError(
                    f"The certificate authority {authority} for the registry {host} cannot be read."
                ) from None
        made.mount("https://", _TlsAdapter(context))
    return made
