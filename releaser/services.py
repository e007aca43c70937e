"""From an image and a Procfile to the services of a release: what each runs, and which one is reached over HTTP."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from releaser import procfile
from releaser.release import Release
from releaser.route import HIGHEST_PORT
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
    """The TCP port at which it is reached, or None for a background service."""
    settings: ServiceSettings = NEW_SERVICE
    own: bool = False
    """Whether the app's own address leads to it."""
    http: bool = True
    """Whether it speaks HTTP at that port; one that is reached as bytes only need not."""


def services(release: Release, image: Image) -> list[Service]:
    """Return the services of a release, the Procfile's order kept.

    Raises ProcfileError, NothingToRunError or ServiceCommandError.
    """
    if release.procfile is None:
        if not image.entrypoint and not image.command:
            raise NothingToRunError(
                f"the image of {release.app} says nothing to run: add CMD to its Dockerfile, or a Procfile"
            )
        return [_service(release, image, OWN_COMMAND, None, own=True)]
    commands = procfile.parse(release.procfile)
    routed = routed_name(commands)
    return [
        _service(release, image, name, words(f"the Procfile's command of '{name}'", line, image), own=name == routed)
        for name, line in commands.items()
    ]


def routed_name(known: Collection[str]) -> str | None:
    """Return which of an app's services answers at its own address, None where nobody can tell."""
    chosen = next((name for name in (WEB, OWN_COMMAND) if name in known), None)
    return next(iter(known)) if chosen is None and len(known) == 1 else chosen


def _service(release: Release, image: Image, name: str, command: tuple[str, ...] | None, *, own: bool) -> Service:
    """Return a service: reached if it has the app's own address, or an endpoint that names it."""
    leading_here = [each for each in release.route.endpoints if each.service == name or (own and each.service is None)]
    if not own and not leading_here:
        return Service(name, command, None, settings(release, name))
    asked = next((each.container_port for each in leading_here if each.container_port is not None), None)
    # The app's own service keeps its port, whatever port of it an endpoint names beside that.
    port = _port(release, image) or asked if own else asked or _port(release, image)
    as_bytes = any(each.tcp_port is not None and each.container_port in {None, port} for each in leading_here)
    over_http = any(each.host is not None and each.container_port in {None, port} for each in leading_here)
    return Service(name, command, port, settings(release, name), own=own, http=over_http or not as_bytes)


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
