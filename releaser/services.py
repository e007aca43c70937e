"""From an image and a Procfile to the services of a release: what each runs, and which one is reached over HTTP."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from releaser import procfile
from releaser.release import HIGHEST_PORT, Release
from store.errors import UsageError
from store.services import NEW_SERVICE, ServiceSettings

OWN_COMMAND = "cmd"
"""The service of an app without a Procfile: it runs the image's own command."""

WEB = "web"
"""The service that is reached over HTTP, where a Procfile names several."""


class NothingToRunError(UsageError):
    """Neither the image nor a Procfile says what to run."""


class ServiceCommandError(UsageError):
    """A service's command cannot be split into words."""


@dataclass(frozen=True)
class Image:
    """What an image's config says about running it (OCI image-spec, config.md, "Execution parameters")."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    tcp_ports: tuple[int, ...] = ()
    health_check: bool = False
    """Whether the engine itself asks its containers how they are (Dockerfile reference, "HEALTHCHECK")."""

    @classmethod
    def inspected(cls, answer: Mapping[str, Any]) -> Image:
        """Read the engine's answer to "inspect an image" (Docker Engine API, ImageInspect)."""
        config = answer.get("Config") or {}
        check = (config.get("Healthcheck") or {}).get("Test") or []
        exposed = (name.partition("/") for name in config.get("ExposedPorts") or {})
        return cls(
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            tcp_ports=tuple(int(port) for port, _, protocol in exposed if protocol in {"", "tcp"} and port.isdigit()),
            health_check=bool(check) and check[0] not in {"", "NONE"},
        )


@dataclass(frozen=True)
class Service:
    """One service of a release."""

    name: str
    command: tuple[str, ...] | None
    """The container's command, handed to the image's ENTRYPOINT if it has one. None: the image's own."""
    port: int | None = None
    """The TCP port at which it is reached over HTTP, or None for a background service."""
    settings: ServiceSettings = NEW_SERVICE


def services(release: Release, image: Image) -> list[Service]:
    """Return the services of a release, the Procfile's order kept.

    Raises ProcfileError, NothingToRunError or ServiceCommandError.
    """
    if release.procfile is None:
        if not image.entrypoint and not image.command:
            raise NothingToRunError(
                f"the image of {release.app} says nothing to run: add CMD to its Dockerfile, or a Procfile"
            )
        return [Service(OWN_COMMAND, None, _port(release, image), settings(release, OWN_COMMAND))]
    commands = procfile.parse(release.procfile)
    routed = next((name for name in (WEB, OWN_COMMAND) if name in commands), None)
    if routed is None and len(commands) == 1:
        routed = next(iter(commands))
    return [
        Service(
            name,
            words(f"the Procfile's command of '{name}'", line, image),
            _port(release, image) if name == routed else None,
            settings(release, name),
        )
        for name, line in commands.items()
    ]


def names(text: str | None) -> Mapping[str, str | None]:
    """Return the commands of an app's services by name, in their order; None is the image's own.

    `text` is the Procfile's, None where there is none. Raises ProcfileError.
    """
    return {OWN_COMMAND: None} if text is None else dict(procfile.parse(text))


def settings(release: Release, name: str) -> ServiceSettings:
    """Return what is settled for a service."""
    return release.services.get(name, NEW_SERVICE)


def words(what: str, line: str, image: Image) -> tuple[str, ...]:
    """Return what a container is given to run a line: the shell with it, or its words for the image's ENTRYPOINT.

    `what` names the line in the message of ServiceCommandError, which is raised for words that cannot be told apart.
    """
    if not image.entrypoint:
        return ("/bin/sh", "-c", line)
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise ServiceCommandError(
            f"{what} cannot be split into the words that the image's ENTRYPOINT takes ({str(error).lower()}); "
            "mend its quotes"
        ) from error


def _port(release: Release, image: Image) -> int | None:
    """Choose the port: the lowest exposed one in the order of their digits, as Aptible does; else config's `PORT`."""
    if image.tcp_ports:
        return min(image.tcp_ports, key=str)
    asked = release.settings.get("PORT", "")
    if asked.isascii() and asked.isdigit() and 1 <= int(asked) <= HIGHEST_PORT:
        return int(asked)
    return None
