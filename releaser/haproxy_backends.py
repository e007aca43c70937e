"""What the proxy knows of an app, as values: where it answers, and which containers stand behind that.

In HAProxy's own nouns (its Configuration Manual): a *backend* per destination of an app's route, with a few *servers*,
most of them kept in maintenance as room for the next release, so that a switch needs the runtime interface only and no
reload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from releaser.route import OWN, Certificate, Destination, Endpoint, Route, Target, Targets

ServerState = Literal["ready", "drain", "maint"]
"""HAProxy's administrative states: takes requests; finishes those it has; empty room for a container."""

FEWEST_SERVERS = 4
"""Room for two containers and their successors. A backend that needs more makes the proxy reload, which costs more."""

NOWHERE = Target("127.0.0.1", 1)
"""Where a server in maintenance points. Not 0.0.0.0, which to HAProxy is the address that the client connected to."""


@dataclass(frozen=True)
class Server:
    """One server of a backend."""

    target: Target = NOWHERE
    state: ServerState = "maint"


@dataclass(frozen=True)
class Backend:
    """One destination of one app."""

    app_id: int
    destination: Destination = OWN
    servers: tuple[Server, ...] = (Server(),) * FEWEST_SERVERS

    @property
    def name(self) -> str:
        """HAProxy's name for it: made of the record's number, and of a digest, so that no user's text is in it.

        It depends on nothing else, so that a worker that a reload has replaced knows it under the same name.
        """
        if self.destination == OWN:
            return f"app-{self.app_id}"
        return f"app-{self.app_id}-{hashlib.sha256(repr(tuple(self.destination)).encode()).hexdigest()[:12]}"

    @property
    def targets(self) -> list[Target]:
        """The containers that take requests."""
        return [server.target for server in self.servers if server.state == "ready"]

    @property
    def draining(self) -> set[int]:
        """The numbers of the servers that finish what they have."""
        return {index for index, server in enumerate(self.servers) if server.state == "drain"}

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
class Routing:
    """One app on the proxy: where it answers, and a backend for each of its route's destinations, in their order."""

    app_id: int
    route: Route
    backends: tuple[Backend, ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.app_id, self.route, self.backends))

    def __hash__(self) -> int:
        return self._hash  # computed once: it is asked for at each switch of any app

    @classmethod
    def new(cls, app_id: int, route: Route) -> Routing:
        """Return the routing of an app that has no container yet."""
        return cls(app_id, route, tuple(Backend(app_id, destination) for destination in route.destinations))

    @property
    def targets(self) -> list[Target]:
        """The containers that take the requests to the app's own address."""
        return self.backends[0].targets

    @property
    def leads(self) -> dict[Destination, list[Target]]:
        """The containers that take requests, by destination."""
        return {backend.destination: backend.targets for backend in self.backends}

    @property
    def draining(self) -> bool:
        """Whether a container of any destination finishes what it has."""
        return any(backend.draining for backend in self.backends)

    def leading(self, route: Route, targets: Targets) -> Routing:
        """Return this app's routing at `route` with just these containers taking requests; others are draining."""
        former = {backend.destination: backend for backend in self.backends}
        return Routing(
            self.app_id,
            route,
            tuple(
                former.get(each, Backend(self.app_id, each)).leading_to(targets.get(each, ()))
                for each in route.destinations
            ),
        )

    def without(self, ports: Collection[int]) -> Routing | None:
        """Return this routing without the endpoints at these ports; None if the app's own is among them."""
        if self.route.port in ports:
            return None
        if self.route.ports.isdisjoint(ports):
            return self
        endpoints = tuple(each for each in self.route.endpoints if each.tcp_port not in ports)
        return self.leading(replace(self.route, endpoints=endpoints), self.leads)

    def drained(self) -> Routing:
        """Return this routing with the room of all draining containers free again."""
        return replace(self, backends=tuple(backend.drained() for backend in self.backends))

    def dump(self) -> dict[str, Any]:
        """Return a form for JSON, without private keys."""
        endpoints = [
            [
                each.host,
                each.tcp_port,
                each.service,
                each.container_port,
                each.certificate and each.certificate.fingerprint,
                each.redirect,
            ]
            for each in self.route.endpoints
        ]
        servers = [[[*server.target, server.state] for server in backend.servers] for backend in self.backends]
        route = {"port": self.route.port, "host": self.route.host, "endpoints": endpoints}
        return {"app_id": self.app_id, "route": route, "servers": servers}

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Routing:
        """Read what `dump` made."""
        endpoints = tuple(
            Endpoint(host, tcp_port, service, port, Certificate(fingerprint) if fingerprint else None, redirect)
            for host, tcp_port, service, port, fingerprint, redirect in kept["route"].get("endpoints", ())
        )
        app_id, route = kept["app_id"], Route(kept["route"]["port"], kept["route"]["host"], endpoints)
        servers: Iterable[tuple[Server, ...]] = (
            tuple(Server(Target(address, port), state) for address, port, state in each) for each in kept["servers"]
        )
        return cls(
            app_id,
            route,
            tuple(Backend(app_id, each, known) for each, known in zip(route.destinations, servers, strict=True)),
        )
