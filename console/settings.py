"""Every setting of the server: its option, its environment variable, its default and what it means, in one table.

The `slipway` program makes its options from this table, and a test holds `docs/settings.md` against it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from builder import credential_helper, reference
from builder.limits import Limits as BuildLimits
from builder.options import CHOICES, Choice, Options
from console.api.transport import Transport
from gitserver.limits import INFLATION_FLOOR_BYTES, ConnectionLimits, Limits, PushLimits
from hooks.keeping import KEPT_DAYS, Policy
from releaser.haproxy_config import SERVER_CONNECTIONS, Listening
from store import secret_key
from store.data_folder import DataFolder
from store.errors import UsageError
from store.handles import check_handle
from store.secret import Secret

SHORTEST_TOKEN = 16
"""Characters of a token: fewer could be guessed over the network in time."""


@dataclass(frozen=True)
class Address:
    """A host and a port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Setting:
    """One setting. `default` is written as the user would write it."""

    name: str
    metavar: str
    default: str | None
    read: Callable[[str], Any]
    meaning: str
    computed: bool = False
    """Whether the default depends on the machine, as its meaning then tells."""

    @property
    def option(self) -> str:
        """The option of `slipway serve`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "SLIPWAY_" + self.name.upper()


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text!r} is not an address to listen on; write HOST:PORT, for example 0.0.0.0:2222")
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104  (":2222" asks for just that)


def _ports(text: str) -> range:
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) < 65536):
        raise UsageError(f"{text!r} is not a range of ports; write FIRST-LAST, for example 20000-29999")
    return range(int(first), int(last) + 1)


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 10_000:
        raise UsageError(f"{text!r} is not a whole number above 0")
    return int(text)


def _large_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 32:
        raise UsageError(f"{text[:40]!r} is not a whole number above 0")
    return int(text)


def _size(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,14})([kmgt]?)", text.lower())
    if match is None:
        raise UsageError(f"{text[:40]!r} is not a size; write a number of bytes, or one with K, M, G or T after it")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2]]


def _size_or_none(text: str) -> int | None:
    return None if text == "none" else _size(text)


def _cpus(text: str) -> float | None:
    if text == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,2})?", text) or float(text) < 0.01:
        raise UsageError(f"{text[:40]!r} is not a number of processors; write for example 2 or 1.5, or none")
    return float(text)


def _percent(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]?|100", text):
        raise UsageError(f"{text[:40]!r} is not a percentage from 1 to 100")
    return int(text)


def _post_quantum(text: str) -> bool:
    if text not in ("any", "post-quantum"):
        raise UsageError(f"{text[:40]!r} is no key exchange; choose any or post-quantum")
    return text == "post-quantum"


def _engine_use(text: str) -> str:
    if text not in ("shared", "dedicated"):
        raise UsageError(f"{text[:40]!r} is no use of an engine; choose shared or dedicated")
    return text


def _as_size(count: int) -> str:
    for shift, unit in ((30, "G"), (20, "M"), (10, "K")):
        if count % (1 << shift) == 0:
            return f"{count >> shift}{unit}"
    return str(count)


def _domain(text: str) -> str:
    for label in text.lower().split("."):
        check_handle(label, "part of a domain")
    return text.lower()


def _builder(text: str) -> Choice:
    for choice in CHOICES:
        if text == choice:
            return choice
    raise UsageError(f"{text!r} is no builder; choose one of {', '.join(CHOICES)}")


def _helper(text: str) -> str:
    if not credential_helper.NAME.fullmatch(text):
        raise UsageError(f"{text[:40]!r} is no credential helper; write the NAME of docker-credential-NAME")
    return text


def _file(text: str) -> Path:
    return Path(text).absolute()


def _proxies(text: str) -> str:
    try:
        return ",".join(str(ipaddress.ip_network(each.strip())) for each in text.split(","))
    except ValueError:
        raise UsageError(f"{text[:80]!r} are not addresses; write for example 127.0.0.1 or 10.0.0.0/8") from None


def _root(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise UsageError(
            f"{text[:80]!r} is not an address without a path; write for example https://deploy.example.com"
        )
    return text.rstrip("/")


def _images(text: str) -> frozenset[str]:
    try:
        return frozenset(str(reference.parse(name)) for name in text.replace(",", " ").split())
    except reference.MalformedReferenceError as error:
        raise UsageError(str(error)) from None


def _token(text: str) -> Secret:
    try:
        token = Path(text).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"the token for the metrics cannot be read from {text}: {reason}") from None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"{text} holds no token of at least {SHORTEST_TOKEN} plain characters; make one with: openssl rand -hex 32"
        )
    return Secret(token)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or len(text) > 255:
        raise UsageError(f"{text[:80]!r} is no URL; write one like https://acme.example/directory")
    return text


def _router(text: str) -> str:
    if text not in ("haproxy", "none"):
        raise UsageError(f"{text[:40]!r} is no router; choose haproxy or none")
    return text


def _log(text: str) -> str:
    if text not in ("console", "json"):
        raise UsageError(f"{text!r} is not a form of log; choose console or json")
    return text


_secret_key: Secret | None = None


def data_folder(root: Path) -> DataFolder:
    """Return the data folder at `root`, with the key that the environment gives for it.

    The variable is taken out of the environment, so that no program that is started gets it.
    """
    global _secret_key  # noqa: PLW0603  (the environment is asked once, and then has it no longer)
    if text := os.environ.pop(secret_key.VARIABLE, None):
        _secret_key = Secret(text)
    return DataFolder(root.absolute(), _secret_key)


DATA = Setting(
    "data",
    "DIR",
    "/var/lib/slipway",
    lambda text: data_folder(Path(text)),
    "The data folder: records, repositories, keys, logs.",
)

SETTINGS = (
    DATA,
    Setting("ssh", "HOST:PORT", "0.0.0.0:2222", _address, "Where Git and commands are served over SSH."),
    Setting(
        "api",
        "HOST:PORT",
        "127.0.0.1:8422",
        _address,
        "Where HTTP is served, to public clients and to whoever watches.",
    ),
    Setting(
        "api_certificate",
        "FILE",
        None,
        _file,
        "A certificate and its chain (PEM), with which HTTP is served over TLS.",
    ),
    Setting("api_certificate_key", "FILE", None, _file, "The certificate's private key (PEM)."),
    Setting(
        "api_proxy",
        "ADDRESSES",
        None,
        _proxies,
        "Proxies in front of HTTP that speak TLS, addresses or networks separated by commas; what they say of clients "
        "(`X-Forwarded-For`, `X-Forwarded-Proto`) is believed.",
    ),
    Setting(
        "api_url",
        "URL",
        None,
        _root,
        "The address by which public clients know HTTP, if a proxy does not pass the `Host` header on.",
    ),
    Setting(
        "host",
        "NAME",
        None,
        str,
        "The name or address under which people reach this machine; it stands in the addresses that are shown. "
        "Without it, the address that the machine reaches others from.",
    ),
    Setting(
        "domain",
        "DOMAIN",
        None,
        _domain,
        "Apps answer at http://APP.DOMAIN (point a wildcard DNS record here). Without it each app has a port of its "
        "own.",
    ),
    Setting(
        "http",
        "HOST:PORT",
        "0.0.0.0:80",
        _address,
        "Where the proxy takes requests for http://APP.DOMAIN. Without a domain only HOST counts: the apps' ports are "
        "opened there.",
    ),
    Setting(
        "router",
        "ROUTER",
        "haproxy",
        _router,
        "What leads visitors to apps: haproxy, or none. With none each app's container publishes its port itself: "
        "nobody answers while one release takes the place of another, and there are no host names and no endpoints.",
    ),
    Setting(
        "https",
        "HOST:PORT",
        None,
        _address,
        "Where the proxy takes requests over TLS, for host names with a certificate; for example 0.0.0.0:443. Without "
        "it there is no TLS. It needs a domain.",
    ),
    Setting("ports", "FIRST-LAST", "20000-29999", _ports, "Ports for apps, where there is no domain."),
    Setting("tcp_ports", "FIRST-LAST", "30000-32767", _ports, "Ports that `endpoints:create --tcp-port` may open."),
    Setting(
        "acme_directory",
        "URL",
        None,
        _url,
        "Where certificates come from that the server gets by itself (ACME), for example "
        "https://acme-v02.api.letsencrypt.org/directory. Setting it agrees to that authority's terms. The proxy then "
        "answers `/.well-known/acme-challenge/` for all host names; port 80 has to be open to the world.",
    ),
    Setting("acme_email", "ADDRESS", None, str, "Whom the certificate authority may write to."),
    Setting(
        "acme_ca",
        "FILE",
        None,
        str,
        "The certificates (PEM) that the certificate authority's own server is trusted by, where it is not a public "
        "one.",
    ),
    Setting(
        "connection_drain",
        "SECONDS",
        "15",
        _count,
        "How long requests and connections under way may go on with a container that another has replaced.",
    ),
    Setting(
        "container_connections",
        "N",
        str(SERVER_CONNECTIONS),
        _count,
        "Requests and connections that one container is given at once; more of them wait, 30 seconds at most.",
    ),
    Setting(
        "front_doors",
        "N",
        str(os.cpu_count() or 1),
        _count,
        "Processes that serve SSH; by default one per core.",
        computed=True,
    ),
    Setting(
        "operations",
        "N",
        str(max(2, os.cpu_count() or 1)),
        _count,
        "How many operations run at once, each of another app; by default one per core, but at least two.",
        computed=True,
    ),
    Setting(
        "drain",
        "SECONDS",
        "60",
        _count,
        "How long running operations may go on after SIGTERM; then they are cancelled, and nothing of them stays.",
    ),
    Setting(
        "builder",
        "BUILDER",
        "auto",
        _builder,
        "What builds images: buildkit or classic; auto is BuildKit where the engine is Docker 23 or newer.",
    ),
    Setting(
        "credential_helper",
        "NAME",
        None,
        _helper,
        "Asks the program docker-credential-NAME about registries that an app has no credentials for. What it knows is "
        "for every app.",
    ),
    Setting(
        "local_images",
        "IMAGES",
        "",
        _images,
        "Images, separated by commas, that live on the engine only and are free for every build; no registry is asked.",
    ),
    Setting(
        "metrics_token_file",
        "FILE",
        None,
        _token,
        "A file with the token that `/metrics` takes (`Authorization: Bearer TOKEN`); without it, the metrics are for "
        "this machine alone.",
    ),
    Setting(
        "build_memory",
        "SIZE",
        "4G",
        _size_or_none,
        "What the processes of one build may have of the engine's memory, or none for no limit.",
    ),
    Setting(
        "build_cpus",
        "N",
        str(os.cpu_count() or 1),
        _cpus,
        "How many processors one build may keep busy, such as 1.5, or none; by default as many as this machine has.",
        computed=True,
    ),
    Setting("build_timeout", "SECONDS", "1800", _large_count, "How long one build may take, or pulling one image."),
    Setting(
        "keep_releases",
        "N",
        str(Policy.keep),
        _count,
        "Releases of each app whose images stay on the engine, so that they can be rolled back to. Others are removed.",
    ),
    Setting(
        "disk_full",
        "PERCENT",
        str(Policy.full),
        _percent,
        "How full the engine's disk may get before everything that no release needs is removed at once.",
    ),
    Setting(
        "engine_use",
        "USE",
        "shared",
        _engine_use,
        "shared: the engine has other users, and only images that this server built are ever removed. dedicated: it "
        "has none, and base images that no release needs and BuildKit's cache are removed too.",
    ),
    Setting(
        "build_cache",
        "SIZE",
        _as_size(Policy.cache),
        _size,
        "How much of BuildKit's cache stays on a dedicated engine; none of it while the disk is too full.",
    ),
    Setting("log_days", "DAYS", str(KEPT_DAYS), _count, "How long the log of an operation is kept after its end."),
    Setting("log", "FORM", "console", _log, "The form of the server's own log on standard error: console or json."),
)


CONNECTION_LIMITS = {
    "connections": Setting(
        "connections", "N", str(ConnectionLimits.connections), _count, "SSH connections at once, in all."
    ),
    "per_address": Setting(
        "connections_per_address",
        "N",
        str(ConnectionLimits.per_address),
        _count,
        "SSH connections at once of one address; an IPv6 /64 counts as one.",
    ),
    "strangers": Setting(
        "strangers",
        "N",
        str(ConnectionLimits.strangers),
        _count,
        "SSH connections at once that have not logged in yet. One more, and the one that has been at it longest goes.",
    ),
    "attempts": Setting(
        "login_attempts",
        "N",
        str(ConnectionLimits.attempts),
        _count,
        "Keys that one connection may try without success.",
    ),
    "login_seconds": Setting(
        "login_grace", "SECONDS", f"{ConnectionLimits.login_seconds:.0f}", _count, "How long logging in may take."
    ),
    "idle_seconds": Setting(
        "idle",
        "SECONDS",
        f"{ConnectionLimits.idle_seconds:.0f}",
        _count,
        "How long the server waits for a client that has logged in and does nothing, or next to nothing. Waiting for a "
        "deploy is not that.",
    ),
    "post_quantum": Setting(
        "key_exchange",
        "KIND",
        "any",
        _post_quantum,
        "any: SSH's key exchange is post-quantum where the client has ML-KEM, and curve25519 otherwise. post-quantum: "
        "clients without ML-KEM (OpenSSH before 9.9) cannot connect.",
    ),
}
"""Settings of `gitserver.limits.ConnectionLimits`, by field."""

PUSH_LIMITS = {
    "refs": Setting("push_refs", "N", str(PushLimits.refs), _large_count, "Refs in one push."),
    "pack_bytes": Setting("pack_size", "SIZE", _as_size(PushLimits.pack_bytes), _size, "What one push may send."),
    "objects": Setting("pack_objects", "N", str(PushLimits.objects), _large_count, "Objects in one push."),
    "object_bytes": Setting(
        "object_size", "SIZE", _as_size(PushLimits.object_bytes), _size, "One object of a push, uncompressed."
    ),
    "inflated_bytes": Setting(
        "inflated_size", "SIZE", _as_size(PushLimits.inflated_bytes), _size, "A push's pack, uncompressed."
    ),
    "inflation_ratio": Setting(
        "inflation_ratio",
        "N",
        str(PushLimits.inflation_ratio),
        _large_count,
        f"How many times its own size a pack may be when uncompressed, from {_as_size(INFLATION_FLOOR_BYTES)} on.",
    ),
    "unpack_bytes": Setting(
        "unpack_memory",
        "SIZE",
        _as_size(PushLimits.unpack_bytes),
        _size,
        "Memory for taking one push apart. Files are not held as a whole, what deltas make of them is, with its base.",
    ),
}
"""Settings of `gitserver.limits.PushLimits`, by field. A SIZE is in bytes, or with K, M, G or T after it."""

LIMITS = (*CONNECTION_LIMITS.values(), *PUSH_LIMITS.values())
"""Settings of `slipway serve` alone."""


@dataclass(frozen=True)
class Settings:
    """The settings of one server, read."""

    data: DataFolder
    ssh: Address
    api: Address
    api_certificate: Path | None
    api_certificate_key: Path | None
    api_proxy: str | None
    api_url: str | None
    host: str | None
    domain: str | None
    http: Address
    router: str
    https: Address | None
    ports: range
    tcp_ports: range
    acme_directory: str | None
    acme_email: str | None
    acme_ca: str | None
    connection_drain: int
    container_connections: int
    front_doors: int
    operations: int
    drain: int
    builder: Choice
    credential_helper: str | None
    local_images: frozenset[str]
    metrics_token_file: Secret | None
    build_memory: int | None
    build_cpus: float | None
    build_timeout: int
    keep_releases: int
    disk_full: int
    engine_use: str
    build_cache: int
    log_days: int
    log: str
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings that a command line with all of SETTINGS and LIMITS has.

        Raises UsageError for settings that do not go together.
        """
        of_connections = {name: values[setting.name] for name, setting in CONNECTION_LIMITS.items()}
        of_pushes = {name: values[setting.name] for name, setting in PUSH_LIMITS.items()}
        limits = Limits(ConnectionLimits(**of_connections), PushLimits(**of_pushes))
        settings = cls(**{setting.name: values[setting.name] for setting in SETTINGS}, limits=limits)
        settings.transport.check()
        return settings

    @property
    def transport(self) -> Transport:
        """How HTTP may be reached."""
        return Transport(self.api.host, self.api_certificate, self.api_certificate_key, self.api_proxy)

    def __post_init__(self) -> None:
        """Raise UsageError for settings that contradict each other."""
        if self.router == "none" and self.domain is not None:
            raise UsageError(
                "SLIPWAY_ROUTER=none has no host names; unset SLIPWAY_DOMAIN, or let HAProxy be the router"
            )
        if self.https is not None and self.domain is None:
            raise UsageError("SLIPWAY_HTTPS needs SLIPWAY_DOMAIN: without it, apps have ports instead of host names")

    @property
    def listening(self) -> Listening:
        """Where the proxy listens for all apps together."""
        return Listening(
            self.http.host,
            self.http.port if self.domain else None,
            https_host=self.https.host if self.https else "",
            https_port=self.https.port if self.https else None,
            server_connections=self.container_connections,
        )

    @property
    def builds(self) -> Options:
        """What builds have to go by."""
        return Options(
            self.builder,
            self.credential_helper,
            self.local_images,
            BuildLimits(self.build_memory, self.build_cpus),
            float(self.build_timeout),
        )

    @property
    def collecting(self) -> Policy:
        """What is kept on the engine, and what is removed."""
        return Policy(self.keep_releases, self.disk_full, self.engine_use == "dedicated", self.build_cache)

    def bound(self, ssh: Address, api: Address) -> Settings:
        """Return the same settings with the addresses that are really listened on."""
        return replace(self, ssh=ssh, api=api)

    @property
    def public_host(self) -> str:
        """The name or address that people are told."""
        if self.host:
            return self.host
        if self.ssh.host not in ("0.0.0.0", "::", ""):  # noqa: S104  (compared, not bound)
            return self.ssh.host
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Connecting a datagram socket sends nothing; the address is TEST-NET-1 (RFC 5737).
                probe.connect(("192.0.2.1", 9))
                return str(probe.getsockname()[0])
            except OSError:
                return "127.0.0.1"


def options(*settings: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a click command an option per setting."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(settings):
            function = click.option(
                setting.option,
                setting.name,
                metavar=setting.metavar,
                envvar=setting.variable,
                default=setting.default,
                show_default=setting.default is not None,
                show_envvar=True,
                help=setting.meaning,
                callback=lambda _context, _parameter, text, read=setting.read: None if text is None else read(text),
            )(function)
        return function

    return decorate
