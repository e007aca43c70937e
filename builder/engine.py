"""A Docker engine, talked to by one operation alone.

The SDK's client reads the server user's own `~/.docker/config.json`: its logins, its proxies, its extra HTTP headers.
None of that belongs into an app's build, so each operation gets a client of its own from which they are taken out, and
which can be interrupted at any moment: the request is closed, and the engine then ends what it was doing for it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

import requests
from docker import APIClient
from docker.auth import AuthConfig
from docker.errors import APIError, DockerException, NotFound
from docker.utils import kwargs_from_env
from docker.utils.proxy import ProxyConfig
from urllib3.exceptions import HTTPError

from builder.interruption import InterruptibleSession
from builder.output import one_line
from store.errors import CancelledError, SlipwayError

NOBODY = "nobody.invalid"
"""A registry that cannot exist (RFC 6761). The SDK reads `~/.docker/config.json` when it holds no login at all."""
WATCH_SECONDS = 0.02
"""How often a running request is checked for its end; a cancelled build's processes are gone within 100 ms."""
ANSWER_SECONDS = 60
"""How long the engine may be silent when it is asked something that takes no work."""
SECONDS_A_MINUTE = 60


class EngineUnreachableError(SlipwayError):
    """The Docker engine does not answer."""


class EngineError(SlipwayError):
    """The Docker engine answers with an error that is none of what was asked."""


class TimeLimitError(SlipwayError):
    """The operation took longer than it may."""


class IsolatedClient(InterruptibleSession, APIClient):
    """The SDK's client without anything of the server user's own Docker configuration."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        environment = dict(os.environ) | ({"DOCKER_HOST": address} if address else {})
        super().__init__(version="auto", timeout=ANSWER_SECONDS, **kwargs_from_env(environment))
        self.trust_env = False
        self._general_configs: Mapping[str, Any] = {}
        self._proxy_configs = ProxyConfig()
        self._auth_configs = AuthConfig({"auths": {NOBODY: {}}})

    def image(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of an image (`GET /images/NAME/json`). Raises docker.errors.NotFound."""
        inspect: Any = self.inspect_image
        found: dict[str, Any] = inspect(name)
        return found

    def find_image(self, name: str) -> dict[str, Any] | None:
        """Return what the engine knows of an image, None if it has none of that name."""
        try:
            return self.image(name)
        except NotFound:
            return None

    def name_image(self, image: str, name: str) -> None:
        """Give an image a name `REPOSITORY:TAG`, taking that from any other image."""
        repository, _, tag = name.rpartition(":")
        self.tag(image, repository, tag)

    @property
    def interface_version(self) -> tuple[int, ...]:
        """The version of the Docker Engine API that is spoken, such as (1, 43)."""
        return tuple(int(part) for part in str(self.api_version).split("."))

    def dial(self) -> socket.socket:
        """Return a connection of its own to the engine, to be closed, which an interruption closes too."""
        adapter: Any = self.get_adapter(self.base_url)
        request = requests.Request("GET", self.base_url).prepare()
        pool = adapter.get_connection_with_tls_context(request, verify=self.verify, proxies={}, cert=self.cert)
        self._remember_connections(pool)
        connection = pool._new_conn()
        connection.connect()
        connection.sock.settimeout(None)
        dialled: socket.socket = connection.sock
        return dialled

    @property
    def address(self) -> str:
        """The engine's, as in DOCKER_HOST."""
        return _named(self._address)

    def post_build(
        self, parameters: Mapping[str, str | int], context: Iterator[bytes] | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Start a build (Docker Engine API, "Build an image") and yield the engine's messages.

        `context` is a tar stream; without one, it comes from a session. The SDK's own `build` knows neither sessions
        nor BuildKit, and not every limit. Raises docker.errors.APIError.
        """
        api: Any = self
        headers = {} if context is None else {"Content-Type": "application/x-tar"}
        response = api._post(
            api._url("/build"), params=parameters, data=context, headers=headers, stream=True, timeout=None
        )
        yield from api._stream_helper(response, decode=True)

    def forget(self, names: Iterable[str]) -> None:
        """Take names off images, whatever has become of this client. Raises nothing."""
        try:
            own = IsolatedClient(self._address)
        except (DockerException, requests.RequestException):
            return
        with closing(own):
            for name in names:
                with suppress(DockerException, requests.RequestException, HTTPError):
                    own.remove_image(name, noprune=True)


@contextmanager
def session(address: str | None, cancelled: threading.Event, deadline: float | None = None) -> Iterator[IsolatedClient]:
    """Yield a client whose requests end as soon as `cancelled` is set or `deadline` (time.monotonic()) has passed.

    Raises CancelledError or TimeLimitError then, whatever the interrupted call itself raised, and
    EngineUnreachableError when the engine cannot be reached or goes away, EngineError for what else it says.
    """
    if cancelled.is_set():
        raise CancelledError("cancelled")
    client = _connected(address)
    ended, late = threading.Event(), threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(client, cancelled, deadline, ended, late), name="engine-session", daemon=True
    )
    watcher.start()
    try:
        yield client
        _raise_if_interrupted(cancelled, late)
    except Exception as error:
        # First of all: an interruption looks like all kinds of errors to whoever was reading.
        _raise_if_interrupted(cancelled, late)
        if isinstance(error, SlipwayError):
            raise
        if isinstance(error, DockerException):
            said = error.explanation if isinstance(error, APIError) else error
            raise EngineError(f"The Docker engine answers with an error: {one_line(str(said))}.") from None
        if isinstance(error, (requests.RequestException, HTTPError)):
            raise _unreachable(address) from None
        raise
    finally:
        ended.set()
        watcher.join()
        # Whatever ended this, a build that still runs ends with it.
        client.interrupt()
        client.close()


def _watch(
    client: IsolatedClient,
    cancelled: threading.Event,
    deadline: float | None,
    ended: threading.Event,
    late: threading.Event,
) -> None:
    while not ended.wait(WATCH_SECONDS):
        if deadline is not None and time.monotonic() >= deadline:
            late.set()
        if cancelled.is_set() or late.is_set():
            client.interrupt()
            return


def _raise_if_interrupted(cancelled: threading.Event, late: threading.Event) -> None:
    if cancelled.is_set():
        raise CancelledError("cancelled")
    if late.is_set():
        raise TimeLimitError("the time limit was reached")


def _connected(address: str | None) -> IsolatedClient:
    try:
        return IsolatedClient(address)
    except (DockerException, requests.RequestException, ValueError):
        raise _unreachable(address) from None


def _unreachable(address: str | None) -> EngineUnreachableError:
    return EngineUnreachableError(
        f"The Docker engine at {_named(address)} does not answer. Check that it runs (docker info), that this server's "
        "user may use it, and that DOCKER_HOST names it."
    )


def _named(address: str | None) -> str:
    return address or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
