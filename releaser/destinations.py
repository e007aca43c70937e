"""From a route and the containers that run to who answers where."""

from __future__ import annotations

from collections.abc import Iterable

from releaser.container import Container
from releaser.route import Destination, Route, Target
from releaser.services import Service


def targets(route: Route, known: Iterable[Service], running: Iterable[Container]) -> dict[Destination, list[Target]]:
    """Return the containers that each destination of a route leads to."""
    by_name = {service.name: service for service in known}
    own = next((service for service in by_name.values() if service.own), None)
    found: dict[Destination, list[Target]] = {}
    for destination in route.destinations:
        service = own if destination.service is None else by_name.get(destination.service)
        port = destination.port or (service and service.port)
        if service is not None and port:
            found[destination] = [Target(each.address, port) for each in running if each.service == service.name]
    return found


def unled(route: Route, known: Iterable[Service]) -> list[str]:
    """Return what is to be told of endpoints that lead nowhere, a sentence each."""
    by_name = {service.name: service for service in known}
    told = []
    for endpoint in route.endpoints:
        name = endpoint.host or f"port {endpoint.tcp_port}"
        if endpoint.service is not None and endpoint.service not in by_name:
            told.append(f"{name}: nobody answers, since this release has no service '{endpoint.service}'")
        elif endpoint.service is not None and by_name[endpoint.service].port is None:
            why = f"'{endpoint.service}' has no port: EXPOSE one, or name one at the endpoint"
            told.append(f"{name}: nobody answers, since {why}")
    return told
