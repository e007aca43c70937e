"""From an image and a Procfile to the services of a release: what each runs, and which one is reached over HTTP."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from releaser import procfile
from releaser.release import HIGHEST_PORT, Release
from store.errors import UsageError

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

    @classmethod
    def inspected(cls, answer: Mapping[str, Any]) -> Image:
        """Read the engine's answer to "inspect an image" (Docker Engine API, ImageInspect)."""
        config = answer.get("Config") or {}
        exposed = (name.partition("/") for name in config.get("ExposedPorts") or {})
        return cls(
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            tcp_ports=tuple(int(port) for port, _, protocol in exposed if protocol in {"", "tcp"} and port.isdigit()),
        )


@dataclass(frozen=True)
class Service:
    """One service of a release."""

    name: str
    command: tuple[str, ...] | None
    """The container's command, handed to the image's ENTRYPOINT if it has one. None: the image's own."""
    port: int | None = None
    """The TCP port at which it is reached over HTTP, or None for a background service."""


def services(release: Release, image: Image) -> list[Service]:
    """Return the services of a release, the Procfile's order kept.

    Raises ProcfileError, NothingToRunError or ServiceCommandError.
    """
    if release.procfile is None:
        if not image.entrypoint and not image.command:
            raise NothingToRunError(
                f"the image of {release.app} says nothing to run: add CMD to its Dockerfile, or a Procfile"
            )
        return [Service(OWN_COMMAND, None, _port(release, image))]
    commands = procfile.parse(release.procfile)
    routed = next((name for name in (WEB, OWN_COMMAND) if name in commands), None)
    if routed is None and len(commands) == 1:
        routed = next(iter(commands))
    return [
        Service(name, _words(name, line, image), _port(release, image) if name == routed else None)
        for name, line in commands.items()
    ]


def _words(name: str, line: str, image: Image) -> tuple[str, ...]:
    if not image.entrypoint:
        return ("/bin/sh", "-c", line)
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise ServiceCommandError(
            f"the Procfile's command of '{name}' cannot be split into the words that the image's ENTRYPOINT takes "
            f"({str(error).lower()}); mend its quotes"
        ) from error


def _port(release: Release, image: Image) -> int | None:
    """Choose the port: the lowest exposed one in the order of their digits, as Aptible does; else config's `PORT`."""
    if image.tcp_ports:
        return min(image.tcp_ports, key=str)
    asked = release.settings.get("PORT", "")
    if asked.isascii() and asked.isdigit() and 1 <= int(asked) <= HIGHEST_PORT:
        return int(asked)
    return None
