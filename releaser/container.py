"""A service's container: its name, labels, environment and limits, as pure functions.

`body` returns what the engine is asked to create (Docker Engine API, ContainerCreate), all but the environment, whose
values are secrets until the last moment. `Container` reads back what the engine lists.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from releaser.release import Release
from releaser.services import Service
from releaser.terminal import Terminal
from store.errors import UsageError
from store.secret import Secret
from store.services import ServiceSettings

INSTANCE = "slipway.instance"
APP = "slipway.app"
APP_ID = "slipway.app-id"
SERVICE = "slipway.service"
INDEX = "slipway.index"
RELEASE = "slipway.release"
OPERATION = "slipway.operation"
PORT = "slipway.port"
PUBLISHED = "slipway.published"
ONE_OFF = "slipway.one-off"
"""Labels, from which all that is to know of a container can be derived. A background service has an empty port.

An image's own labels are its containers' labels too, unless they are set anew; so all of these always are.
"""

CPU_SHARES_PER_MB = 1
"""Where processors are short, containers get of them in proportion to their memory; the engine's default is 1024."""

MAX_PROCESSES = 1024
"""Processes and threads of one container: plenty for a thread pool, and the end of a fork bomb."""

DROPPED_CAPABILITIES = ("NET_RAW", "MKNOD")
"""NET_RAW forges ARP answers on the bridge that all apps share, and so draws a neighbour's requests to itself."""

LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}
"""The engine keeps at most 30 MB of a container's output."""


class VariableError(UsageError):
    """A config variable cannot become an environment variable."""


@dataclass(frozen=True)
class Console:
    """Somebody at the standard input of a container for one command."""

    terminal: Terminal | None = None
    """Their terminal, for which the container gets a pseudo-terminal."""
    bare: bool = False
    """Whether the command runs without the image's ENTRYPOINT."""


def name(release: Release, service: Service, index: int) -> str:
    """Return the container's name. It is unique on the engine, where instances may have apps of the same name."""
    return _name(labels(release, service, index))


def _name(known: Mapping[str, str]) -> str:
    return "-".join(["slipway", *(known[label] for label in (INSTANCE, APP, SERVICE, RELEASE, OPERATION, INDEX))])


def labels(release: Release, service: Service, index: int, published: str = "") -> dict[str, str]:
    """Return the labels by which `Container` finds back what a container is."""
    return {
        INSTANCE: release.instance,
        APP: release.app,
        APP_ID: str(release.app_id),
        SERVICE: service.name,
        INDEX: str(index),
        RELEASE: str(release.number),
        OPERATION: str(release.operation),
        PORT: "" if service.port is None else str(service.port),
        PUBLISHED: published,
    }


def environment(release: Release, service: Service, index: int) -> dict[str, Secret]:
    """Return the environment: the platform's metadata over the config; the engine puts the image's ENV beneath."""
    app = f"{release.api}/apps/{release.app_id}"
    metadata = {
        "APTIBLE_PROCESS_TYPE": service.name,
        "APTIBLE_PROCESS_INDEX": str(index),
        "APTIBLE_CONTAINER_SIZE": str(service.settings.container_memory_mb),
        "APTIBLE_LAYER": "app",
        "APTIBLE_APP_HREF": app,
        "APTIBLE_SERVICE_HREF": f"{app}/services/{service.name}",
        "APTIBLE_RELEASE_HREF": f"{app}/releases/{release.number}",
    }
    if release.git_ref is not None:
        metadata["APTIBLE_GIT_REF"] = release.git_ref
    return {**release.environment, **{key: Secret(value) for key, value in metadata.items()}}


def one_off_environment(release: Release, service: Service, console: Console | None) -> dict[str, Secret]:
    """Return the environment of a container for one command: that of a service, and TERM of a terminal beneath it."""
    term = {"TERM": Secret(console.terminal.name)} if console and console.terminal else {}
    return {**term, **environment(release, service, 0)}


def revealed(variables: Mapping[str, Secret]) -> list[str]:
    """Return the variables as `KEY=value`, as the engine is told them.

    Raises VariableError for one that no environment can carry (environ(7)); the engine's own refusal would show it.
    """
    lines = []
    for key, value in variables.items():
        line = f"{key}={value.reveal()}"
        if not key or "=" in key or "\0" in line:
            raise VariableError(
                f"the config variable {key.partition('=')[0]!r} has a NUL byte or no name, and cannot reach a "
                "container; unset it, or set it to another value"
            )
        lines.append(line)
    return lines


def body(
    release: Release, service: Service, index: int, network: str, address: str, published: str = ""
) -> dict[str, Any]:
    """Return the request for a container at an IPv4 address of its own.

    `published` is the HOST:PORT of the host that leads to its port too, where there is no proxy.

    The address is fixed because the engine hands a freed one to the next container that starts: after a restart of its
    own, an app must not find its route leading to another tenant.
    """
    asked: dict[str, Any] = {
        "Image": release.image,
        "Labels": labels(release, service, index, published),
        "HostConfig": _host(service.settings, network),
        "NetworkingConfig": {"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": address}}}},
    }
    if service.command is not None:
        asked["Cmd"] = list(service.command)
    if published:
        host, _, port = published.rpartition(":")
        asked["ExposedPorts"] = {f"{service.port}/tcp": {}}
        asked["HostConfig"]["PortBindings"] = {f"{service.port}/tcp": [{"HostIp": host, "HostPort": port}]}
    return asked


def one_off_name(instance: str, app: str) -> str:
    """Return a new name for an app's container that is thrown away after one use.

    The chance in it keeps an image's labels from making `listed` take it for a service's container.
    """
    return f"{_one_off_prefix(instance)}{app}-{secrets.token_hex(6)}"


def one_off_labels(instance: str, app_id: int, purpose: str) -> dict[str, str]:
    """Return the labels of such a container, by which a start finds one whose owner was killed."""
    return {INSTANCE: instance, APP_ID: str(app_id), ONE_OFF: purpose}


def _one_off_prefix(instance: str) -> str:
    return f"slipway-one-off-{instance}-"


def one_off_body(
    release: Release, service: Service, network: str, address: str, console: Console | None = None
) -> dict[str, Any]:
    """Return the request for a container that is thrown away after one command, which is `service`'s.

    It has the environment, the limits and the neighbours of the app's services. The engine keeps nothing of its output,
    which whoever asked for it reads as it comes.
    """
    asked = body(release, service, 0, network, address)
    asked["Labels"] = one_off_labels(release.instance, release.app_id, service.name)
    asked["HostConfig"]["LogConfig"] = {"Type": "none"}
    if console is not None:
        asked["Tty"] = console.terminal is not None
        asked["OpenStdin"] = asked["AttachStdin"] = asked["AttachStdout"] = asked["AttachStderr"] = True
        # The program's input ends with that of whoever is there.
        asked["StdinOnce"] = True
        if console.bare:
            asked["Entrypoint"] = asked.pop("Cmd")  # an entry point of its own takes the image's place, CMD and all
    return asked


def listed_one_off(summary: Mapping[str, Any]) -> bool:
    """Return whether one entry of the engine's list (ContainerSummary) is a container for one command."""
    prefix = _one_off_prefix(summary["Labels"].get(INSTANCE, ""))
    return any(each.startswith(f"/{prefix}") for each in summary["Names"])


def _host(settings: ServiceSettings, network: str) -> dict[str, Any]:
    memory = settings.container_memory_mb * 1024 * 1024
    return {
        "NetworkMode": network,
        # Until a container is healthy it must not come up again by itself: the first exit is the one to report.
        "RestartPolicy": {"Name": "no"},
        "Init": True,
        "Memory": memory,
        "MemorySwap": memory,
        "CpuShares": settings.container_memory_mb * CPU_SHARES_PER_MB,
        "NanoCpus": round(settings.cpu_limit * 1_000_000_000),
        "PidsLimit": MAX_PROCESSES,
        "CapDrop": list(DROPPED_CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {"Type": "json-file", "Config": LOG_OPTIONS},
    }


@dataclass(frozen=True)
class Container:
    """A container of this instance, as the engine lists it."""

    id: str
    app_id: int
    app: str
    service: str
    index: int
    release: int
    operation: int
    state: str
    """`created`, `running`, `paused`, `restarting`, `exited` or `dead`."""
    address: str
    """Its fixed IPv4 address on the instance's network."""
    port: int | None
    """The port at which it is reached, None for a background service."""
    published: str = ""
    """The HOST:PORT of the host that leads to it, where there is no proxy."""

    @property
    def title(self) -> str:
        """What its owner calls it: the service's name, and from the second one on a number that counts from 0."""
        return f"{self.service}.{self.index}" if self.index else self.service

    @property
    def running(self) -> bool:
        """Whether it runs, or is on its way to run again by itself."""
        return self.state in {"running", "restarting"}

    @classmethod
    def listed(cls, summary: Mapping[str, Any]) -> Container | None:
        """Read one entry of the engine's list (Docker Engine API, ContainerSummary).

        None for a container that is none of ours. Labels alone prove nothing: a build's containers have those that the
        Dockerfile sets, whatever they claim. But only who asks the engine gives a container its name.
        """
        known = summary["Labels"]
        if not all(label in known for label in (INSTANCE, APP, APP_ID, SERVICE, INDEX, RELEASE, OPERATION, PORT)):
            return None
        if f"/{_name(known)}" not in summary["Names"]:
            return None
        return cls(
            id=summary["Id"],
            app_id=int(known[APP_ID]),
            app=known[APP],
            service=known[SERVICE],
            index=int(known[INDEX]),
            release=int(known[RELEASE]),
            operation=int(known[OPERATION]),
            state=summary["State"],
            address=next(iter(fixed_addresses(summary)), ""),
            port=int(known[PORT]) if known[PORT] else None,
            published=known.get(PUBLISHED, ""),
        )


def fixed_addresses(summary: Mapping[str, Any]) -> list[str]:
    """Return the IPv4 addresses that a listed container has asked for, whether it runs or not."""
    networks = (summary.get("NetworkSettings") or {}).get("Networks") or {}
    configs = ((network or {}).get("IPAMConfig") or {} for network in networks.values())
    return [config["IPv4Address"] for config in configs if config.get("IPv4Address")]
