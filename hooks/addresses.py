"""Where things are found: an app's address, and the server's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from releaser import route as routes
from releaser.route import Certificate, Route
from store.apps import App
from store.endpoints import Endpoint


@dataclass(frozen=True)
class Addresses:
    """What the outside calls this server."""

    host: str
    """A name or address under which people reach this machine."""
    ssh_port: int
    http_port: int
    """Where the proxy answers, if apps have host names."""
    domain: str | None
    """Apps are `APP.DOMAIN`; without it each has a port."""
    https_port: int | None = None
    """Where the proxy answers over TLS; None if it does not."""
    proxied: bool = True
    """Whether there is a proxy at all; without one, containers publish their apps' ports."""

    def route(self, app: App, endpoints: Sequence[Endpoint] = ()) -> Route:
        """Return where the proxy takes an app's requests; `endpoints` are the ways in that it has beside its own."""
        own = None if self.domain is None else f"{app.handle}.{self.domain}"
        further = tuple(
            routes.Endpoint(
                host=each.host,
                tcp_port=each.tcp_port,
                service=each.service,
                container_port=each.container_port,
                certificate=None if each.certificate is None else Certificate.of(each.certificate),
                redirect=each.redirect,
            )
            for each in endpoints
            if self.served(app, each)
        )
        return Route(port=app.port, endpoints=further) if own is None else Route(host=own, endpoints=further)

    def served(self, app: App, endpoint: Endpoint) -> bool:
        """Return whether an endpoint leads anywhere with the settings that the server has now.

        A name under the domain belongs to the app that is called so now, whoever made an endpoint of it once.
        """
        if not self.proxied:
            return False
        if endpoint.host is None:
            return True
        return self.domain is not None and (
            endpoint.host == f"{app.handle}.{self.domain}" or not self.under_domain(endpoint.host)
        )

    def under_domain(self, host: str) -> bool:
        """Return whether a host name belongs to an app by its name."""
        return self.domain is not None and (host == self.domain or host.endswith(f".{self.domain}"))

    def url_of(self, endpoint: Endpoint) -> str:
        """Return the address that people open, or that programs connect to, for an endpoint."""
        if endpoint.host is None:
            return f"tcp://{self._in_url}:{endpoint.tcp_port}"
        if endpoint.certificate is None or self.https_port is None:
            return self.url_of_host(endpoint.host)
        return f"https://{endpoint.host}" if self.https_port == 443 else f"https://{endpoint.host}:{self.https_port}"

    def url(self, app: App) -> str:
        """Return the address that people open."""
        if self.domain is not None:
            return self.url_of_host(f"{app.handle}.{self.domain}")
        return f"http://{self._in_url}:{app.port}"

    def url_of_host(self, host: str) -> str:
        """Return the address that people open for a host name."""
        return f"http://{host}" if self.http_port == 80 else f"http://{host}:{self.http_port}"

    def git_repo(self, app: App) -> str:
        """Return the address that Git pushes to."""
        return f"ssh://git@{self._in_url}:{self.ssh_port}/{app.environment}/{app.handle}.git"

    def command(self, words: str) -> str:
        """Return how somebody types a command."""
        port = "" if self.ssh_port == 22 else f"-p {self.ssh_port} "
        return f"ssh {port}git@{self.host} {words}"

    @property
    def _in_url(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host
