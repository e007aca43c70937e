"""Every setting of the server: its option, its environment variable, its default and what it means, in one table.

The `slipway` program makes its options from this table, and a test holds `docs/settings.md` against it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from store.data_folder import DataFolder
from gitserver.limits import INFLATION_FLOOR_BYTES, ConnectionLimits, Limits, PushLimits
from builder.choice import CHOICES, Choice
from store.errors import UsageError
from store.handles import check_handle


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


def _domain(text: str) -> str:
    for label in text.lower().split("."):
        check_handle(label, "part of a domain")
    return text.lower()


def _log(text: str) -> str:
    if text not in ("console", "json"):
        raise UsageError(f"{text!r} is not a form of log; choose console or json")
    return text


DATA = Setting(
    "data",
    "DIR",
    "/var/lib/slipway",
    lambda text: DataFolder(Path(text).absolute()),
    "The data folder: records, repositories, keys, logs.",
)

SETTINGS = (
    DATA,
    Setting("ssh", "HOST:PORT", "0.0.0.0:2222", _address, "Where Git and commands are served over SSH."),
    Setting("api", "HOST:PORT", "127.0.0.1:8422", _address, "Where HTTP is served; `/healthz` answers when it is up."),
    Setting(
        "host",
        "NAME",
def _builder(text: str) -> Choice:
    for choice in CHOICES:
        if text == choice:
            return choice
    raise UsageError(f"{text!r} is no builder; choose one of {', '.join(CHOICES)}")


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
    Setting("ports", "FIRST-LAST", "20000-29999", _ports, "Ports for apps, where there is no domain."),
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
    Setting("log", "FORM", "console", _log, "The form of the server's own log on standard error: console or json."),
)


@dataclass(frozen=True)
class Settings:
    """The settings of one server, read."""

    data: DataFolder
    ssh: Address
    api: Address
    host: str | None
    domain: str | None
    http: Address
    ports: range
    front_doors: int
    operations: int
    drain: int
    log: str

    def bound(self, ssh: Address, api: Address) -> Settings:
    Setting(
        "builder",
        "BUILDER",
        "auto",
        _builder,
        "What builds images: buildkit or classic; auto is BuildKit where the engine is Docker 23 or newer.",
    ),
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
    builder: Choice
