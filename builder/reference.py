"""Image references: what stands behind FROM, `--from=` and `deploy --docker-image`.

The grammar is that of github.com/distribution/reference, with Docker's short forms: no host means Docker Hub, no folder
on Docker Hub means `library`, no tag means `latest`. Host and repository name are the OCI distribution specification's
("Pulling manifests"), a digest is the OCI image specification's ("Digests").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from store.errors import SlipwayError

DOCKER_HUB = "docker.io"
DOCKER_HUB_REGISTRY = "registry-1.docker.io"
"""The host that answers the registry interface for names under docker.io."""

LONGEST_NAME = 255
"""Characters of host and repository together, a limit of the reference grammar."""
HIGHEST_PORT = 65535

_HOST_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"({_HOST_LABEL}(?:\.{_HOST_LABEL})*)(?::([0-9]{{1,5}}))?")
_FOLDER = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_FOLDER}(?:/{_FOLDER})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BARE_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


class MalformedReferenceError(SlipwayError):
    """A word that is no image reference."""


@dataclass(frozen=True)
class Reference:
    """One image by name, in its full form. With a tag and a digest, `digest` wins, as in Docker."""

    host: str
    """Registry host in lower case, with its port if one was given."""
    repository: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """Host and repository, without tag and digest."""
        return f"{self.host}/{self.repository}"

    @property
    def manifest(self) -> str:
        """What the registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> str:
        """Return the reference to exactly one manifest of this repository."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Return the reference that `text` names.

    Raises MalformedReferenceError for anything else, among it an image's bare id: an id names no registry, so
    nobody could be asked whether the app may use it.
    """
    if _BARE_DIGEST.fullmatch(text):
        raise MalformedReferenceError(
            f"'{_shown(text)}' is an image's id; name the image by its registry and repository instead"
        )
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _malformed(text, "a digest is 'sha256:' and 64 hexadecimal digits in lower case")
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    tag = None if colon < 0 else name[colon + 1 :]
    if tag is not None:
        name = name[:colon]
        if not _TAG.fullmatch(tag):
            raise _malformed(text, "a tag is up to 128 letters, digits, '_', '.' and '-'")
    host, repository = _split_host(name)
    port = _HOST.fullmatch(host)
    if not port or (port[2] and not 0 < int(port[2]) <= HIGHEST_PORT):
        raise _malformed(text, f"'{_shown(host)}' is no host name")
    if not _REPOSITORY.fullmatch(repository) or len(host) + 1 + len(repository) > LONGEST_NAME:
        raise _malformed(text, "a repository name is lower-case letters and digits, joined by '.', '_', '-' and '/'")
    return Reference(host.lower(), repository, tag or (None if at else "latest"), digest or None)


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, repository = first, rest
    else:
        host, repository = DOCKER_HUB, name
    if host.lower() in ("index.docker.io", DOCKER_HUB_REGISTRY):
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return host, repository


def _malformed(text: str, why: str) -> MalformedReferenceError:
    return MalformedReferenceError(f"'{_shown(text)}' is no image reference: {why}")


def _shown(text: str) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= LONGEST_NAME else printable[:LONGEST_NAME] + "…"
