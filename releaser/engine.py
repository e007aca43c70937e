"""The Docker engine, as far as running services needs it (Docker Engine API 1.41 or later, through the `docker` SDK).

One `Engine` belongs to one thread for one piece of work. It carries no registry credentials and sends nothing of the
server user's own Docker configuration.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import docker
import docker.errors
import requests
from docker.auth import AuthConfig
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.utils.proxy import ProxyConfig
from docker.utils.socket import STDERR, frames_iter

from releaser import container, network
from releaser.container import Console, Container
from releaser.network import Network
from releaser.release import Release
from releaser.services import Image, Service
from releaser.terminal import Size
from store.errors import SlipwayError

DEFAULT_URL = "unix:///var/run/docker.sock"

ANSWER_SECONDS = 60
"""How long one request may take; starting a container on a busy host takes seconds, not minutes."""

STOP_SECONDS = 10
"""From SIGTERM to SIGKILL, as `docker stop` has it."""

ADDRESS_ATTEMPTS = 5
"""Addresses to try when the engine says that one is taken, by something on the network that is not ours."""

MAX_LOG_LINE = 500
"""Characters shown of one line that a container wrote."""

_placing = threading.Lock()
"""Held from reading which addresses are taken until a new container is listed with its own."""


class EngineUnreachableError(SlipwayError):
    """The engine does not answer. What runs keeps running."""


class EngineRefusedError(SlipwayError):
    """The engine answered that it cannot do what it was asked."""


class ImageMissingError(SlipwayError):
    """The engine no longer has a release's image."""


@dataclass(frozen=True)
class State:
    """How a container is doing."""

    running: bool
    exit_status: int
    out_of_memory: bool
    """The kernel killed a process of it for going over its memory."""
    health: str = ""
    """`starting`, `healthy` or `unhealthy` where the image has a HEALTHCHECK, else empty."""
    health_output: str = ""
    """What the HEALTHCHECK's command wrote the last time, one line."""


class _Client(docker.APIClient):
    """The SDK's client without the configuration that it reads from the user's home or from DOCKER_CONFIG."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, version=DEFAULT_DOCKER_API_VERSION, timeout=ANSWER_SECONDS)
        self.trust_env = False  # neither ~/.netrc nor HTTP_PROXY has a say on the way to the engine
        self._general_configs: dict[str, Any] = {}
        self._proxy_configs = ProxyConfig()
        # Not empty: the SDK answers an empty one by reading the user's file again.
        self._auth_configs = AuthConfig({"auths": {"registry.invalid": {}}})
        self._version: str = self.version(api_version=False)["ApiVersion"]


_Piece = TypeVar("_Piece")


class Output(Generic[_Piece]):
    """What a container writes, as it comes. `close`, which any thread may call, ends whoever iterates."""

    def __init__(self, written: Any, asking: Callable[[str], AbstractContextManager[None]]) -> None:
        self._written = written
        self._asking = asking

    def __iter__(self) -> Iterator[_Piece]:
        with self._asking("read a container's output"):
            yield from self._written

    def close(self) -> None:
        """Let go of the connection."""
        self._written.close()


class Attachment:
    """A container's standard input, and what it writes: pairs of whether it is standard error, and bytes.

    One thread may read while another one writes; any may close, which ends both.
    """

    def __init__(self, connection: Any, terminal: bool, asking: Callable[[str], AbstractContextManager[None]]) -> None:
        self._kept = connection  # closes the socket when it is collected
        self._socket: socket.socket = connection._sock
        # The SDK's limit for an answer; somebody may think for an hour, and so may a program.
        self._socket.settimeout(None)
        self._terminal = terminal
        self._asking = asking

    def __iter__(self) -> Iterator[tuple[bool, bytes]]:
        with self._asking("read a container's output"):
            for stream, chunk in frames_iter(self._kept, self._terminal):
                yield stream == STDERR, chunk

    def write(self, data: bytes) -> None:
        """Write to standard input; waits while the program does not read. Raises OSError when it has ended."""
        self._socket.sendall(data)

    def end_input(self) -> None:
        """Let standard input end. Raises OSError."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Engine:
    """The engine at `url` (`unix://…` or `tcp://…`; None: the default socket), as a context manager.

    Every method raises EngineUnreachableError or EngineRefusedError.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url or DEFAULT_URL
        with self._asking("connect"):
            # Half of the SDK's methods have no types of their own.
            self._client: Any = _Client(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def image(self, image: str) -> Image:
        """Return what an image says about running it. Raises ImageMissingError."""
        with self._asking("inspect an image"):
            try:
                return Image.inspected(self._client.inspect_image(image))
            except docker.errors.ImageNotFound as error:
                raise ImageMissingError(
                    f"the engine no longer has the image {image}; run 'rebuild', or deploy again"
                ) from error

    def network(self, instance: str) -> Network:
        """Return the instance's network, made where there is none yet."""
        with self._asking("set up the apps' network"), _placing:
            name, labels = network.name(instance), network.labels(instance)
            if name not in self._networks(instance).values():
                # The engine knows which of its subnets are free, but grants fixed addresses only on a subnet that was
                # asked for: so let it choose one, and ask for that. The draft's name keeps it from ever being used.
                for left, called in self._networks(instance).items():
                    if called == f"{name}-draft":  # by somebody who was killed at this very place
                        self._client.remove_network(left)
                draft = self._client.create_network(f"{name}-draft", network.DRIVER, labels=labels)["Id"]
                pool = {"Driver": "default", "Config": self._client.inspect_network(draft)["IPAM"]["Config"]}
                self._client.remove_network(draft)
                self._client.create_network(name, network.DRIVER, options=network.OPTIONS, ipam=pool, labels=labels)
            return Network.inspected(self._client.inspect_network(name))

    def remove_network(self, instance: str) -> None:
        """Remove the instance's network, if it is there. No container may be on it any more."""
        with self._asking("remove the apps' network"), _placing:
            for identifier in self._networks(instance):
                self._client.remove_network(identifier)

    def _networks(self, instance: str) -> dict[str, str]:
        """Return the names of the instance's networks by their ids."""
        label = f"{container.INSTANCE}={instance}"
        return {found["Id"]: found["Name"] for found in self._client.networks(filters={"label": label})}

    def containers(self, instance: str, app_id: int | None = None) -> list[Container]:
        """Return the instance's containers, of one app or of all, whatever their state."""
        wanted = [f"{container.INSTANCE}={instance}", container.OPERATION]
        if app_id is not None:
            wanted.append(f"{container.APP_ID}={app_id}")
        with self._asking("list containers"):
            listed = self._client.containers(all=True, filters={"label": wanted})
        found = [ours for ours in map(Container.listed, listed) if ours is not None]
        return sorted(found, key=lambda each: (each.app_id, each.operation, each.service, each.index))

    def run(
        self, release: Release, service: Service, index: int, avoid: Collection[str] = (), published: str = ""
    ) -> Container:
        """Create and start one container of a service, at an IPv4 address that is none of `avoid`.

        `published` is the HOST:PORT of the host that leads to it too.

        It does not come up again by itself until `keep_running`. Raises VariableError as well.
        """
        variables = container.environment(release, service, index)

        def body(place: str, address: str) -> dict[str, Any]:
            return {
                **container.body(release, service, index, place, address, published),
                "Env": container.revealed(variables),
            }

        name = container.name(release, service, index)
        identifier = self._place(release, f"{release.app}'s service '{service.name}'", name, body, avoid, self.start)
        return next(each for each in self.containers(release.instance, release.app_id) if each.id == identifier)

    def run_one_off(
        self,
        release: Release,
        service: Service,
        avoid: Collection[str],
        begin: Callable[[str], None],
        console: Console | None = None,
    ) -> str:
        """Create a container for one command, `service`'s, and return its id once `begin` has started it.

        `begin` may attach to it first; it is called again where the engine refuses an address. Raises VariableError as
        well.
        """
        variables = container.one_off_environment(release, service, console)

        def body(place: str, address: str) -> dict[str, Any]:
            return {
                **container.one_off_body(release, service, place, address, console),
                "Env": container.revealed(variables),
            }

        name = container.one_off_name(release.instance, release.app)
        return self._place(release, f"{release.app}'s {service.name}", name, body, avoid, begin)

    def _place(
        self,
        release: Release,
        what: str,
        name: str,
        body: Callable[[str, str], dict[str, Any]],
        avoid: Collection[str],
        begin: Callable[[str], None],
    ) -> str:
        """Create a container at an address that nobody has, and start it; return its id."""
        place = self.network(release.instance)
        refused: set[str] = set()
        while True:
            with self._asking(f"create a container of {what}"), _placing:
                taken = {
                    address
                    for summary in self._client.containers(all=True, filters={"network": place.name})
                    for address in container.fixed_addresses(summary)
                }
                address = network.free_address(place, taken | refused | set(avoid))
                identifier = str(self._client.create_container_from_config(body(place.name, address), name)["Id"])
            try:
                with self._asking(f"start {what}"):
                    begin(identifier)
            except BaseException as error:
                self.remove(identifier)
                refused.add(address)
                if "Address already in use" in str(error) and len(refused) < ADDRESS_ATTEMPTS:
                    continue
                raise
            return identifier

    def attach(self, identifier: str) -> Output[tuple[bytes | None, bytes | None]]:
        """Return what a container writes, as pairs of standard output and standard error, until it exits.

        It misses nothing of a container that is not started before this has returned.
        """
        with self._asking("read a container's output"):
            written = self._client.attach(identifier, stream=True, demux=True)
        return Output(written, self._asking)

    def attach_input(self, identifier: str, *, terminal: bool) -> Attachment:
        """Return both ways of a container with a `Console`, which is not started yet."""
        with self._asking("attach to a container"):
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            return Attachment(self._client.attach_socket(identifier, wanted), terminal, self._asking)

    def resize(self, identifier: str, size: Size) -> None:
        """Tell a running container's pseudo-terminal how large it is."""
        with self._asking("resize a terminal"):
            self._client.resize(identifier, size.rows, size.columns)

    def log(self, identifier: str, *, lines: int, follow: bool, since: float | None = None) -> Output[bytes]:
        """Return the last lines that a container wrote, and with `follow` what it goes on to write until it exits.

        `since` (a Unix time) leaves out what was written before, and the limit on lines.
        """
        with self._asking("read a container's log"):
            tail = {"since": since} if since is not None else {"tail": lines}
            return Output(self._client.logs(identifier, stream=True, follow=follow, **tail), self._asking)

    def wait(self, identifier: str) -> State:
        """Return how a container ended, once it has."""
        with self._asking("wait for a container"):
            self._client.wait(identifier, timeout=ANSWER_SECONDS)
        return self.state(identifier)

    def one_offs(self, instance: str, app_id: int | None = None) -> list[str]:
        """Return the ids of the containers for one command, of one app or of all."""
        wanted = [f"{container.INSTANCE}={instance}", container.ONE_OFF]
        if app_id is not None:
            wanted.append(f"{container.APP_ID}={app_id}")
        with self._asking("list containers"):
            listed = self._client.containers(all=True, filters={"label": wanted})
        return [summary["Id"] for summary in listed if container.listed_one_off(summary)]

    def keep_running(self, identifier: str) -> None:
        """Let the engine start a container again whenever it exits, and after a restart of the engine or the host."""
        with self._asking("set a restart policy"):
            self._client.update_container(identifier, restart_policy={"Name": "unless-stopped"})

    def start(self, identifier: str) -> None:
        """Start a stopped container."""
        with self._asking("start a container"):
            self._client.start(identifier)

    def stop(self, identifier: str) -> None:
        """Stop a container: its stop signal first, SIGKILL after STOP_SECONDS. One that is gone counts as stopped."""
        with self._asking("stop a container"):
            try:
                self._client.stop(identifier, timeout=STOP_SECONDS)
            except docker.errors.NotFound:
                return

    def kill(self, identifier: str) -> None:
        """Kill a container's processes (SIGKILL)."""
        with self._asking("kill a container"):
            self._client.kill(identifier)

    def remove(self, identifier: str) -> None:
        """Remove a container with its anonymous volumes, killed if it runs. One that is gone counts as removed."""
        with self._asking("remove a container"):
            try:
                self._client.remove_container(identifier, v=True, force=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if "already in progress" not in str(error):  # somebody else is removing it at this moment
                    raise

    def state(self, identifier: str) -> State:
        """Return how a container is doing. One that is gone counts as killed."""
        with self._asking("inspect a container"):
            try:
                state = self._client.inspect_container(identifier)["State"]
            except docker.errors.NotFound:
                return State(running=False, exit_status=128 + 9, out_of_memory=False)
        health = state.get("Health") or {}
        last = (health.get("Log") or [{}])[-1]
        return State(
            state["Running"],
            state["ExitCode"],
            state["OOMKilled"],
            health.get("Status", ""),
            _cleaned(" ".join(last.get("Output", "").split())),
        )

    def last_lines(self, identifier: str, count: int) -> list[str]:
        """Return the last lines that a container wrote, cleaned of control characters, which could steer a terminal."""
        with self._asking("read a container's log"):
            written = self._client.logs(identifier, tail=count)
        lines = written.decode(errors="replace").splitlines()[-count:]
        return [_cleaned(line) for line in lines]

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except docker.errors.APIError as error:
            if error.response is not None and error.is_server_error() and not error.explanation:
                raise EngineUnreachableError(self._unreachable()) from error
            reason = " ".join(str(error.explanation or error).split())
            raise EngineRefusedError(f"the Docker engine could not {what}: {reason}") from error
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise EngineUnreachableError(self._unreachable()) from error

    def _unreachable(self) -> str:
        return f"the Docker engine at {self.url} does not answer; start it, or name another with DOCKER_HOST"


def _cleaned(line: str) -> str:
    return "".join(char if char.isprintable() else " " for char in line)[:MAX_LOG_LINE].rstrip()
