"""Asking a registry whether this app may use an image, and which manifest it is now.

The engine has one store for all apps and hands out what is in it without asking anybody, so the registry is asked here,
each time, with the app's own credentials: `HEAD /v2/NAME/manifests/REFERENCE` (OCI distribution specification, "Pulling
manifests") with the basic or bearer authentication that the registry's challenge names (RFC 7617; the distribution
project's "Token Authentication Specification").
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import HTTPBasicAuth

from builder import ecr
from builder.credentials import PASSWORD, USERNAME, Credentials
from builder.reference import DOCKER_HUB, DOCKER_HUB_REGISTRY, Reference
from builder.registry_connection import is_loopback, is_safe, proxies
from store.errors import SlipwayError

MOST_REDIRECTS = 3
LONGEST_ANSWER = 4 << 20
"""Bytes of a manifest or token. 4 MiB is the size that the OCI distribution specification asks registries to accept."""

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"([^"]*)"|([^",\s]+))')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 401, 403, 404, 429


class RegistryError(SlipwayError):
    """A registry did not hand over an image; nothing was built or changed."""


class CredentialsMissingError(RegistryError):
    """The registry wants credentials and the app has none for it."""


class CredentialsRefusedError(RegistryError):
    """The registry does not accept the app's credentials for this image."""


class ImageNotFoundError(RegistryError):
    """The registry has no such image."""


class RegistryUnreachableError(RegistryError):
    """The registry does not answer, or not as a registry does."""


class _DeniedError(Exception):
    """The registry said 401 or 403; the text is what else it said."""


@dataclass(frozen=True)
class Permission:
    """A registry's word that the app may pull an image."""

    digest: str
    """Of the manifest that the reference names now."""
    credentials: Credentials | None
    """What has to be shown to the registry: None where the app's were refused or not needed to be tried."""
    credentials_refused: bool = False
    """The app's credentials were refused, and the image is public."""


def ask(reference: Reference, credentials: Credentials | None, session: requests.Session) -> Permission:
    """Ask a reference's registry for its manifest, with `credentials` first where there are some, then without.

    `session` comes from `open_session` for this reference.

    Raises RegistryError: one of its classes for each reason why the image cannot be used.
    """
    registry = _Registry(session, reference)
    if credentials is None:
        try:
            return Permission(registry.digest(None), None)
        except _DeniedError:
            raise CredentialsMissingError(
                f"{reference.host} does not give {reference} without credentials, and none are set for it. "
                f"{_remedy(reference.host)}"
            ) from None
    try:
        return Permission(registry.digest(credentials), credentials)
    except _DeniedError as denied:
        said = str(denied)
    try:
        return Permission(registry.digest(None), None, credentials_refused=True)
    except (_DeniedError, ImageNotFoundError):
        raise CredentialsRefusedError(
            f"{reference.host} refuses {reference} to {credentials.who}: {_reason(credentials, said)}. "
            f"{_remedy(reference.host)}"
        ) from None


def _reason(credentials: Credentials, said: str) -> str:
    if moment := credentials.expired_at:
        return f"{credentials.what} expired at {moment:%Y-%m-%d %H:%M} UTC"
    if "expired" in said.lower():
        return f"it says that {credentials.what} has expired"
    return f"{credentials.what} is wrong or has expired, or this user may not pull the image, or there is no such image"


def _remedy(host: str) -> str:
    """Return what to do about credentials, the last sentence of every error that they cause."""
    if ecr.region(host):
        return (
            f"Set {ecr.PREFIX}{ecr.ACCESS_KEY_ID} and {ecr.PREFIX}{ecr.SECRET_ACCESS_KEY} with config:set, and a fresh "
            "token is fetched for every operation; or pass one that is valid now with deploy "
            "--private-registry-username AWS and --private-registry-password."
        )
    return (
        f"Set {USERNAME} and {PASSWORD} with config:set, or with deploy --private-registry-username and "
        "--private-registry-password if they are valid for hours only."
    )


class _Registry:
    """One repository of one registry."""

    def __init__(self, session: requests.Session, reference: Reference) -> None:
        self._session = session
        self._reference = reference
        self._schemes = ["https", "http"] if is_loopback(reference.host) else ["https"]

    def digest(self, credentials: Credentials | None) -> str:
        """Return the manifest's digest. Raises _DeniedError, or RegistryError for what is no matter of credentials."""
        response = self._manifest("HEAD", None)
        authorization = None
        if response.status_code == _UNAUTHORIZED:
            authorization = self._authorization(response.headers.get("WWW-Authenticate", ""), credentials)
            if authorization is None:
                raise _DeniedError
            response = self._manifest("HEAD", authorization)
        if credentials and response.status_code in (_UNAUTHORIZED, _FORBIDDEN):
            # Only an answer to GET has a body, which may say more.
            response = self._manifest("GET", authorization)
        self._check(response)
        digest = response.headers.get("Docker-Content-Digest", "")
        if _DIGEST.fullmatch(digest):
            return digest
        response = self._manifest("GET", authorization)
        self._check(response)
        try:
            return f"sha256:{hashlib.sha256(_body(response)).hexdigest()}"
        except requests.RequestException as error:
            raise self._unreachable(error) from None

    def _manifest(self, method: str, authorization: str | None) -> requests.Response:
        host = DOCKER_HUB_REGISTRY if self._reference.host == DOCKER_HUB else self._reference.host
        path = f"{host}/v2/{self._reference.repository}/manifests/{self._reference.manifest}"
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        if authorization:
            headers["Authorization"] = authorization
        while True:
            try:
                return self._request(method, f"{self._schemes[0]}://{path}", headers)
            except (requests.RequestException, ValueError) as error:
                # On loopback, where nobody can listen, the engine falls back to plain HTTP in the same way.
                if len(self._schemes) == 1:
                    raise self._unreachable(error) from None
                self._schemes.pop(0)

    def _request(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        for _ in range(MOST_REDIRECTS + 1):
            response = self._session.request(
                method, url, headers=headers, allow_redirects=False, stream=True, proxies=proxies(url)
            )
            if not response.is_redirect:
                return response
            target = urljoin(url, response.headers["Location"])
            if not is_safe(target):
                raise requests.RequestException("it redirects to an address without TLS")
            if urlsplit(target).netloc != urlsplit(url).netloc:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise requests.TooManyRedirects("it redirects too often")

    def _authorization(self, challenge: str, credentials: Credentials | None) -> str | None:
        """Return the header that answers a challenge (RFC 9110, section 11.6.1), None if there is nothing to show."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return _basic(credentials) if credentials else None
        if scheme.lower() != "bearer":
            raise self._unreachable_as("it asks for an authentication that is neither basic nor bearer")
        parameters = {key.lower(): quoted or bare for key, quoted, bare in _PARAMETER.findall(rest)}
        realm = parameters.get("realm") or ""
        if not is_safe(realm):
            raise self._unreachable_as("it sends credentials to an address without TLS, so they were not sent")
        query = {"scope": parameters.get("scope") or f"repository:{self._reference.repository}:pull"}
        if service := parameters.get("service"):
            query["service"] = service
        try:
            url = requests.Request("GET", realm, params=query).prepare().url or realm
            response = self._request("GET", url, {"Authorization": _basic(credentials)} if credentials else {})
            if response.status_code in (_UNAUTHORIZED, _FORBIDDEN):
                raise _DeniedError(_said(response))
            if not response.ok:
                raise self._unreachable_as(f"its token service answers with HTTP status {response.status_code}")
            token = _token(response)
        except (requests.RequestException, ValueError) as error:
            raise self._unreachable(error, "its token service ") from None
        return f"Bearer {token}"

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            raise _DeniedError(_said(response))
        if status == _NOT_FOUND:
            raise ImageNotFoundError(f"{self._reference.host} has no image {self._reference}; check its name and tag")
        if status == _TOO_MANY:
            raise self._unreachable_as("it limits how often it is asked; try again later, or set credentials")
        if not response.ok:
            raise self._unreachable_as(f"it answers with HTTP status {status}")

    def _unreachable(self, error: Exception, who: str = "it ") -> RegistryUnreachableError:
        # The library's own messages can carry the whole address, a token service's query among it.
        reasons: list[tuple[type[Exception], str]] = [
            (requests.exceptions.SSLError, f"{who}has no certificate that this server trusts"),
            (requests.Timeout, f"{who}does not answer in time"),
            (requests.ConnectionError, f"no connection to {'it' if who == 'it ' else who.strip()}"),
        ]
        said = next(
            (text for kind, text in reasons if isinstance(error, kind)), f"{who}does not answer as a registry does"
        )
        return self._unreachable_as(said)

    def _unreachable_as(self, why: str) -> RegistryUnreachableError:
        return RegistryUnreachableError(
            f"The registry {self._reference.host} could not be asked for {self._reference}: {why}."
        )


def _basic(credentials: Credentials) -> str:
    request = requests.PreparedRequest()
    request.prepare(url="http://registry.invalid/")
    HTTPBasicAuth(credentials.username.reveal().encode(), credentials.password.reveal().encode())(request)
    return str(request.headers["Authorization"])


def _said(response: requests.Response) -> str:
    """Return the text of a refusal, whatever its form is."""
    try:
        return _body(response).decode("utf-8", "replace")
    except requests.RequestException:
        return ""


def _token(response: requests.Response) -> str:
    answer: Any = json.loads(_body(response))
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ValueError("no token")
    return token


def _body(response: requests.Response) -> bytes:
    body = b""
    for chunk in response.iter_content(1 << 16):
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise requests.RequestException("its answer is too long")
    return body
