"""The proxy's configuration file, made of values: pure functions over HAProxy's Configuration Manual.

The configuration file is the one place where routes are kept. A comment line per app holds its value as JSON, so that
`read(render(x)) == x`; the rest of the file is derived from these lines.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from releaser.haproxy_backends import Backend, Routing, Server, ServerState
from releaser.route import Endpoint

KEEP_ALIVE_SECONDS = 10
"""How long a visitor's connection may idle. So long after a reload the replaced worker may still be sent a request."""

MASTER_SOCKET = "master.sock"
ADMIN_SOCKET = "admin.sock"
"""Unix sockets in the proxy's folder; HAProxy changes into it, so that the names stay within sun_path's 108 bytes."""

CERTIFICATES = "certificates"
"""Folder of the certificates in the proxy's folder, each in a file that is called after its fingerprint."""

CERTIFICATE_LIST = "certificates.list"
"""Which certificate is shown for which host name (crt-list, Configuration Manual section 5.1)."""

SERVER_CONNECTIONS = 2000
"""Requests, WebSockets and TCP connections that one container is given at once, unless a setting says otherwise."""

APPS_REMEMBERED = 4096
"""Apps whose part of the file is kept in memory, so that a switch costs the work of one app and not that of all."""

_MARK = "# slipway "
_BIND = re.compile(r"^    bind (?P<host>\S*):(?P<port>\d+)\b", re.MULTILINE)


@dataclass(frozen=True)
class Listening:
    """Where the proxy listens, as whom it runs, and what holds for all apps."""

    bind_host: str = "127.0.0.1"
    """Where apps' own ports and the shared HTTP port are opened."""
    http_port: int | None = None
    """The port that all apps with a host name share, or None where each app has a port of its own."""
    user: str | None = None
    """The user and group that workers become where the master is root."""
    https_host: str = ""
    https_port: int | None = None
    """The port for TLS that all host names with a certificate share, or None where there is none."""
    acme_thumbprint: str | None = None
    """What answers the challenges of a certificate authority: see `releaser.acme`. None leaves them to the apps."""
    server_connections: int = SERVER_CONNECTIONS

    @property
    def addresses(self) -> set[tuple[str, int]]:
        """The addresses that all apps share."""
        shared = {(self.bind_host, self.http_port), (self.https_host, self.https_port)}
        return {(host, port) for host, port in shared if port is not None}


def shape(routings: Mapping[int, Routing], listening: Listening) -> str:
    """Return a digest of all that only a reload can change: everything but which containers the servers are."""
    empty = {app_id: _emptied(each) for app_id, each in routings.items()}
    return hashlib.sha256(_text(empty, listening, "").encode()).hexdigest()[:16]


def render(routings: Mapping[int, Routing], listening: Listening) -> str:
    """Return the configuration file's text."""
    return _text(routings, listening, shape(routings, listening))


def _text(routings: Mapping[int, Routing], listening: Listening, digest: str) -> str:
    apps = _ordered(routings)
    parts = [_global(digest, listening), _DEFAULTS]
    if listening.http_port is not None:
        parts.append(_plain_frontend(apps, listening, listening.http_port))
    if listening.https_port is not None:
        parts.append(_tls_frontend(apps, listening, listening.https_port))
    parts.append(f"backend nobody from http\n    http-request return {_NO_APP}\n")
    parts += [_section(app, listening.bind_host, listening.server_connections) for app in apps]
    return "\n".join(parts)


def read(text: str) -> dict[int, Routing]:
    """Return the apps of a text that `render` made.

    What another version of this program wrote is left out: the records know every app, and each start restores them.
    """
    found = (_loaded(line) for line in text.splitlines() if line.startswith(_MARK))
    return {routing.app_id: routing for routing in found if routing is not None}


@lru_cache(APPS_REMEMBERED)
def _loaded(line: str) -> Routing | None:
    try:
        return Routing.load(json.loads(line.removeprefix(_MARK)))
    except (KeyError, TypeError, ValueError):
        return None


@lru_cache(APPS_REMEMBERED)
def _emptied(app: Routing) -> Routing:
    """Return an app with as many servers, of which none leads anywhere."""
    backends = (replace(each, servers=(Server(),) * len(each.servers)) for each in app.backends)
    return replace(app, backends=tuple(backends))


@lru_cache(2 * APPS_REMEMBERED)
def _section(app: Routing, bind_host: str, connections: int) -> str:
    """Return what the file says of one app alone."""
    parts = [_MARK + json.dumps(app.dump(), sort_keys=True) + "\n"]
    if app.route.port is not None:
        parts.append(_own_frontend(app, bind_host, app.route.port))
    parts += [
        _tcp_frontend(_backend_of(app, endpoint), bind_host, endpoint.tcp_port)
        for endpoint in app.route.endpoints
        if endpoint.tcp_port is not None
    ]
    return "\n".join([*parts, *(_backend(backend, connections) for backend in app.backends)])


def certificate_list(routings: Mapping[int, Routing]) -> str:
    """Return the list of certificates: a file per line, and the one host name that it is shown for.

    What else a certificate is good for does not matter: another tenant's host name may be among it.
    """
    return "".join(
        f"{certificate_file(endpoint.certificate.fingerprint)} {host}\n"
        for routing in _ordered(routings)
        for host, endpoint in routing.route.hosts.items()
        if endpoint is not None and endpoint.certificate is not None
    )


def certificate_file(fingerprint: str) -> str:
    """Return the name of a certificate's file in the proxy's folder."""
    return f"{CERTIFICATES}/{fingerprint}.pem"


def listeners(text: str) -> set[tuple[str, int]]:
    """Return every host and TCP port at which a proxy with this file listens, whichever version wrote it."""
    return {(match["host"], int(match["port"])) for match in _BIND.finditer(text)}


def addresses(routings: Iterable[Routing], listening: Listening) -> set[tuple[str, int]]:
    """Return every host and TCP port that the proxy listens on."""
    return listening.addresses | {(listening.bind_host, port) for each in routings for port in each.route.ports}


def commands(routing: Routing) -> list[str]:
    """Return the runtime commands (HAProxy Management Guide, "set server") that make a worker follow this routing.

    They are idempotent, and those that add capacity come first: there is always a container to take a request.
    """
    return [line for backend in routing.backends for line in _commands(backend)]


def _commands(backend: Backend) -> list[str]:
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


def _ordered(routings: Mapping[int, Routing]) -> list[Routing]:
    return [routings[app_id] for app_id in sorted(routings)]


def _backend_of(routing: Routing, endpoint: Endpoint | None) -> Backend:
    """Return the backend that an endpoint leads to; None is the app's own address."""
    if endpoint is None:
        return routing.backends[0]
    return next(each for each in routing.backends if each.destination == endpoint.destination)


def _global(digest: str, listening: Listening) -> str:
    privileges = f"    user {listening.user}\n    group {listening.user}\n" if listening.user else ""
    # `description` tells from outside which file a worker was started with. The admin socket hands the listeners over
    # to the next worker, so that no connection waiting in a queue is lost on a reload.
    return f"""global
    master-worker
    description {digest}
    stats socket unix@{ADMIN_SOCKET} mode 600 level admin expose-fd listeners
    hard-stop-after 1h
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    tune.ssl.default-dh-param 2048
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
# WebSockets, `http-request` bounds slow senders, `queue` those who wait while an app's containers have all they can
# take: its own visitors wait, not those of other apps. Keep-alive packets end TCP connections whose peer is gone.
_DEFAULTS = f"""defaults http
    mode http
    balance roundrobin
    option forwardfor
    option redispatch 1
    option idle-close-on-response
    retries 3
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout queue 30s
    timeout tunnel 1h
    timeout http-request 10s
    timeout http-keep-alive {KEEP_ALIVE_SECONDS}s
    http-error {_BROKEN_ANSWER}
    http-error {_NO_CONTAINER}
    http-error {_LATE_ANSWER}

defaults tcp
    mode tcp
    balance leastconn
    option redispatch 1
    option clitcpka
    option srvtcpka
    retries 3
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout queue 30s
"""

# What visitors say of themselves in fields that only a proxy may set is taken away, in the spelling with underscores as
# well: to an app behind WSGI or CGI both are one (RFC 3875 section 4.1.18). A request's id is kept if it is sane, so
# that it can be followed from outside to inside.
_HEADERS = """    http-request del-header (?i)^x[-_]forwarded[-_] -m reg
    http-request del-header (?i)^(forwarded|x[-_]real[-_]ip|x_request_id)$ -m reg
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Request-ID %[uuid()] unless { req.hdr(x-request-id) -m reg ^[A-Za-z0-9._-]{1,128}$ }
"""


def _frontend(name: str, bind: str, scheme: str, port: int, before: str = "") -> str:
    return f"""frontend {name} from http
    bind {bind}
{before}{_HEADERS}    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Port {port}
"""


_HOST = "    http-request set-var(txn.host) req.hdr(host),field(1,:),lower\n"


_WITH_PATH = "{ path_beg / }"
"""Not `OPTIONS *` (RFC 9112 section 3.2.4), which has no place in a URL."""


def _if_host(host: str, *further: str) -> str:
    return " ".join([f"if {{ var(txn.host) -m str {host} }}", *further]) + "\n"


def _plain_frontend(apps: Iterable[Routing], listening: Listening, port: int) -> str:
    before, rules = _HOST, ""
    if listening.acme_thumbprint is not None:
        # RFC 8555 section 8.3: the answer is the token that was asked for and the thumbprint of the account's key.
        before += (
            "    http-request return status 200 content-type application/octet-stream "
            f'lf-string "%[path,field(4,/)].{listening.acme_thumbprint}" '
            "if { path -m reg ^/\\.well-known/acme-challenge/[A-Za-z0-9_-]+$ }\n"
        )
    to = "" if listening.https_port == 443 else f":{listening.https_port}"
    for app in apps:
        for endpoint in app.route.endpoints:
            host = endpoint.host
            if host and endpoint.redirect and endpoint.certificate and listening.https_port is not None:
                elsewhere = f"https://{host}{to}%[pathq]"
                before += f"    http-request redirect code 308 location {elsewhere} {_if_host(host, _WITH_PATH)}"
        rules += _plain_rules(app)
    frontend = _frontend("http", f"{listening.bind_host}:{port}", "http", port, before)
    return f"{frontend}{rules}    default_backend nobody\n"


@lru_cache(2 * APPS_REMEMBERED)
def _plain_rules(app: Routing) -> str:
    hosts = app.route.hosts.items()
    return "".join(f"    use_backend {_backend_of(app, known).name} {_if_host(host)}" for host, known in hosts)


def _tls_frontend(apps: Iterable[Routing], listening: Listening, port: int) -> str:
    rules = "".join(
        f"    use_backend {_backend_of(app, endpoint).name} {_if_host(host)}"
        for app in apps
        for host, endpoint in app.route.hosts.items()
        if endpoint is not None and endpoint.certificate is not None
    )
    # `strict-sni`: who asks for a name without a certificate is shown nobody else's.
    bind = f"{listening.https_host}:{port} ssl crt-list {CERTIFICATE_LIST} strict-sni alpn h2,http/1.1"
    return f"{_frontend('https', bind, 'https', port, _HOST)}{rules}    default_backend nobody\n"


def _own_frontend(app: Routing, bind_host: str, port: int) -> str:
    return (
        f"{_frontend(f'port-{port}', f'{bind_host}:{port}', 'http', port)}    default_backend {app.backends[0].name}\n"
    )


def _tcp_frontend(backend: Backend, bind_host: str, port: int) -> str:
    return f"frontend tcp-{port} from tcp\n    bind {bind_host}:{port}\n    default_backend {backend.name}\n"


def _backend(backend: Backend, connections: int) -> str:
    lines = [f"backend {backend.name} from {'tcp' if backend.destination.tcp else 'http'}"]
    for index, server in enumerate(backend.servers):
        disabled = "" if server.state == "ready" else " disabled"
        lines.append(f"    server {index} {server.target.address}:{server.target.port} maxconn {connections}{disabled}")
    return "\n".join(lines) + "\n"
