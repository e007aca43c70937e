"""Where things are found: an app's address, and the server's own."""

from __future__ import annotations

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

    def route(self, app: App) -> Route:
        """Return where the proxy takes an app's requests."""
        if self.domain is not None:
            return Route(host=f"{app.handle}.{self.domain}")
        return Route(port=app.port)

    def url(self, app: App) -> str:
        """Return the address that people open."""
        if self.domain is not None:
            port = "" if self.http_port == 80 else f":{self.http_port}"
            return f"http://{app.handle}.{self.domain}{port}"
        return f"http://{self._in_url}:{app.port}"

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
