"""The proxy's configuration as a value: which app answers where, and which containers stand behind it.

Pure functions over HAProxy's own nouns (its Configuration Manual): a *backend* per app with a few *servers*, most of
them kept in maintenance as room for the next release, so that a switch needs the runtime interface only and no reload.

The configuration file is the one place where routes are kept. A comment line per backend holds its value as JSON, so
that `read(render(x)) == x`; the rest of the file is derived from these lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

from releaser.release import Route

ServerState = Literal["ready", "drain", "maint"]
"""HAProxy's administrative states: takes requests; finishes those it has; empty room for a container."""

FEWEST_SERVERS = 4
"""Room for two containers and their successors. A backend that needs more makes the proxy reload, which costs more."""

KEEP_ALIVE_SECONDS = 10
"""How long a visitor's connection may idle. So long after a reload the replaced worker may still be sent a request."""

MASTER_SOCKET = "master.sock"
ADMIN_SOCKET = "admin.sock"
"""Unix sockets in the proxy's folder; HAProxy changes into it, so that the names stay within sun_path's 108 bytes."""

_MARK = "# slipway "


class Target(NamedTuple):
    """A container's IPv4 address and port."""

    address: str
    port: int


NOWHERE = Target("127.0.0.1", 1)
"""Where a server in maintenance points. Not 0.0.0.0, which to HAProxy is the address that the client connected to."""


@dataclass(frozen=True)
class Server:
    """One server of a backend."""

    target: Target = NOWHERE
    state: ServerState = "maint"


@dataclass(frozen=True)
class Backend:
    """One app on the proxy."""

    app_id: int
    route: Route
    servers: tuple[Server, ...] = (Server(),) * FEWEST_SERVERS

    @property
    def name(self) -> str:
        """HAProxy's name for it. It comes from the record's number, so no user's text is in it."""
        return f"app-{self.app_id}"

    @property
    def targets(self) -> list[Target]:
        """The containers that take requests."""
        return [server.target for server in self.servers if server.state == "ready"]

    def leading_to(self, targets: Collection[Target]) -> Backend:
        """Return this backend with just these containers taking requests; others that did are draining."""
        servers = [
            replace(server, state="ready" if server.target in targets else "drain")
            if server.state != "maint"
            else server
            for server in self.servers
        ]
        known = {server.target for server in servers if server.state == "ready"}
        for target in dict.fromkeys(targets):
            if target in known:
                continue
            room = next((index for index, server in enumerate(servers) if server.state == "maint"), None)
            if room is None:
                servers.append(Server(target, "ready"))
            else:
                servers[room] = Server(target, "ready")
        return replace(self, servers=tuple(servers))

    def drained(self) -> Backend:
        """Return this backend with the room of all draining containers free again."""
        return replace(self, servers=tuple(Server() if each.state == "drain" else each for each in self.servers))


@dataclass(frozen=True)
class Listening:
    """Where the proxy listens, and as whom it runs."""

    bind_host: str
    http_port: int | None
    """The port that all apps with a host name share, or None where each app has a port of its own."""
    user: str | None = None
    """The user and group that workers become where the master is root."""


def shape(backends: Mapping[int, Backend], listening: Listening) -> str:
    """Return a digest of all that only a reload can change: listeners, host names, backends, numbers of servers."""
    fixed = [(each.app_id, asdict(each.route), len(each.servers)) for each in _ordered(backends)]
    text = json.dumps([_DEFAULTS, asdict(listening), fixed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render(backends: Mapping[int, Backend], listening: Listening) -> str:
    """Return the configuration file's text."""
    parts = [_global(shape(backends, listening), listening), _DEFAULTS]
    if listening.http_port is not None:
        parts.append(_shared_frontend(_ordered(backends), listening.bind_host, listening.http_port))
    for backend in _ordered(backends):
        if backend.route.port is not None:
            parts.append(_own_frontend(backend, listening.bind_host, backend.route.port))
        parts.append(_backend(backend))
    return "\n".join(parts)


def read(text: str) -> dict[int, Backend]:
    """Return the backends of a text that `render` made."""
    backends = {}
    for line in text.splitlines():
        if line.startswith(_MARK):
            kept = json.loads(line.removeprefix(_MARK))
            servers = tuple(Server(Target(*each["target"]), each["state"]) for each in kept["servers"])
            backends[kept["app_id"]] = Backend(
                kept["app_id"], Route(**{**kept["route"], "also": tuple(kept["route"].get("also", ()))}), servers
            )
    return backends


def ports(backends: Iterable[Backend], listening: Listening) -> set[int]:
    """Return every TCP port that the proxy listens on."""
    own = {backend.route.port for backend in backends if backend.route.port is not None}
    return own if listening.http_port is None else own | {listening.http_port}


def commands(backend: Backend) -> list[str]:
    """Return the runtime commands (HAProxy Management Guide, "set server") that make a worker's backend this one.

    They are idempotent, and those that add capacity come first: there is always a container to take a request.
    """
    order: dict[ServerState, int] = {"ready": 0, "drain": 1, "maint": 2}
    lines = []
    for index, server in sorted(enumerate(backend.servers), key=lambda pair: order[pair[1].state]):
        name = f"{backend.name}/{index}"
        if server.state == "maint":
            lines.append(f"set server {name} state maint")
        lines.append(f"set server {name} addr {server.target.address} port {server.target.port}")
        if server.state != "maint":
            lines.append(f"set server {name} state {server.state}")
    return lines


def _ordered(backends: Mapping[int, Backend]) -> list[Backend]:
    return [backends[app_id] for app_id in sorted(backends)]


def _global(digest: str, listening: Listening) -> str:
    privileges = f"    user {listening.user}\n    group {listening.user}\n" if listening.user else ""
    # `description` tells from outside which file a worker was started with. The admin socket hands the listeners over
    # to the next worker, so that no connection waiting in a queue is lost on a reload.
    return f"""global
    master-worker
    description {digest}
    stats socket unix@{ADMIN_SOCKET} mode 600 level admin expose-fd listeners
    hard-stop-after 1h
{privileges}"""


def _page(status: int, title: str, text: str) -> str:
    """Return the end of a directive that answers with a page: without double quotes, which would end the string."""
    page = f"<!doctype html><title>{title}</title><h1>{title}</h1><p>{text}</p>"
    return f'status {status} content-type "text/html; charset=utf-8" string "{page}"'


_NO_APP = _page(
    503,
    "No app answers here",
    "There is no app at this address, or it has no running release. Its owner can deploy one.",
)
_NO_CONTAINER = _page(
    503, "This app has no running release", "Nothing of it takes requests at this moment. Please try again soon."
)
_BROKEN_ANSWER = _page(502, "This app broke off its answer", "Please try again. Its owner finds the reason in its log.")
_LATE_ANSWER = _page(504, "This app did not answer in time", "Please try again. Its owner finds the reason in its log.")


# `idle-close-on-response`: a worker that is being replaced lets a kept connection finish one more request instead of
# closing it just as the visitor sends one. `connect` is short, since containers are on the host's own bridge; retries
# go to another container at once, and to the only one a second apart, which bridges an app's restart. `tunnel` is for
# WebSockets, `http-request` bounds slow senders.
_DEFAULTS = f"""defaults
    mode http
    balance roundrobin
    option forwardfor
    option redispatch 1
    option idle-close-on-response
    retries 3
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    timeout http-request 10s
    timeout http-keep-alive {KEEP_ALIVE_SECONDS}s
    http-error {_BROKEN_ANSWER}
    http-error {_NO_CONTAINER}
    http-error {_LATE_ANSWER}
"""


def _frontend(name: str, bind_host: str, port: int) -> str:
    return f"""frontend {name}
    bind {bind_host}:{port}
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Port {port}
"""


def _shared_frontend(backends: Iterable[Backend], bind_host: str, port: int) -> str:
    rules = "".join(
        f"    use_backend {backend.name} if {{ var(txn.host) -m str {host} }}\n"
        for backend in backends
        for host in backend.route.hosts
    )
    host = "    http-request set-var(txn.host) req.hdr(host),field(1,:),lower\n"
    nobody = f"    default_backend nobody\n\nbackend nobody\n    http-request return {_NO_APP}\n"
    return _frontend("http", bind_host, port) + host + rules + nobody


def _own_frontend(backend: Backend, bind_host: str, port: int) -> str:
    return _frontend(f"port-{port}", bind_host, port) + f"    default_backend {backend.name}\n"


def _backend(backend: Backend) -> str:
    mark = _MARK + json.dumps(asdict(backend), sort_keys=True)
    lines = [f"backend {backend.name}", mark]
    for index, server in enumerate(backend.servers):
        disabled = "" if server.state == "ready" else " disabled"
        lines.append(f"    server {index} {server.target.address}:{server.target.port}{disabled}")
    return "\n".join(lines) + "\n"
