"""Where things are found: an app's address, and the server's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from releaser.release import Route
from store.apps import App


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

    def route(self, app: App, hosts: Sequence[str] = ()) -> Route:
        """Return where the proxy takes an app's requests; `hosts` are the names that it has beside its own."""
        if self.domain is not None:
            return Route(host=f"{app.handle}.{self.domain}", also=tuple(hosts))
        return Route(port=app.port)

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
