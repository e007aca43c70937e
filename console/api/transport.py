"""How the HTTP address may be reached: with TLS, from this machine alone, or through a proxy that is declared.

Passwords and tokens travel here, so plain HTTP is never spoken to strangers directly.

Every process reads settings, and with them this. What serves HTTP is loaded by the engine room alone: it would be the
larger part of a front door's memory, and of the time until `slipway` has asked for anything.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from store.errors import UsageError

log = structlog.get_logger()

KEEP_ALIVE_SECONDS = 20
"""How long a connection may be idle: longer than Aptible's client keeps one for its next request, which is 15 s."""


RENEWED_SECONDS = 60.0
"""How soon a renewed certificate is noticed."""


@dataclass(frozen=True)
class Transport:
    """What the settings say about it."""

    host: str
    """The address that is listened on."""
    certificate: Path | None
    """A certificate with its chain, PEM."""
    key: Path | None
    """Its private key, PEM."""
    proxy: str | None
    """Addresses of proxies, separated by commas, whose X-Forwarded-For and X-Forwarded-Proto are believed."""

    def check(self) -> None:
        """Raise UsageError if passwords would travel in the open, or the certificate cannot be used."""
        if (self.certificate is None) != (self.key is None):
            raise UsageError("SLIPWAY_API_CERTIFICATE and SLIPWAY_API_CERTIFICATE_KEY belong together; set both")
        if self.certificate is not None and self.key is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, _no_password)
            except ssl.SSLError:
                raise self._unusable("one is not in the PEM format, or the key is another's or encrypted") from None
            except OSError as error:
                raise self._unusable(str(error.strerror)) from None
        elif self.proxy is None and not _only_this_machine(self.host):
            raise UsageError(
                f"passwords and tokens would travel unencrypted to {self.host}: set SLIPWAY_API_CERTIFICATE and "
                "SLIPWAY_API_CERTIFICATE_KEY, or SLIPWAY_API_PROXY if a proxy speaks TLS in front of it, "
                "or let SLIPWAY_API be on 127.0.0.1"
            )

    async def renew(self, context: ssl.SSLContext, every: float = RENEWED_SECONDS) -> None:
        """Take a certificate that is renewed in its file, for the connections to come; to be run beside the server."""
        if self.certificate is None or self.key is None:
            return
        known = _state(self.certificate, self.key)
        while True:
            await asyncio.sleep(every)
            now = _state(self.certificate, self.key)
            if now == known:
                continue
            try:
                self.check()  # in a context of its own: half a renewal must not reach the one that serves
                context.load_cert_chain(self.certificate, self.key, _no_password)
            except (UsageError, OSError) as error:
                # A program that renews writes one file after the other; the next look may find both.
                log.warning("the new certificate of HTTP cannot be used, so the former one is", error=str(error))
            else:
                known = now
                log.info("the certificate of HTTP was renewed")

    def bounded(self, listening: socket.socket) -> socket.socket:
        """Take a listening socket over, and return one that hands out no more connections than it should."""
        from console.api.connections import MOST_PER_ADDRESS, Listener

        # Everybody comes from the proxy's address, if there is one.
        most = None if self.proxy else MOST_PER_ADDRESS
        return Listener(listening, most_per_address=most, tls=self.certificate is not None)

    def _unusable(self, reason: str) -> UsageError:
        return UsageError(f"the certificate {self.certificate} with the key {self.key} cannot be used: {reason}")

    @property
    def options(self) -> dict[str, Any]:
        """What uvicorn.Config takes of it."""
        from console.api.connections import Connection

        return {
            "http": Connection,
            "timeout_keep_alive": KEEP_ALIVE_SECONDS,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
            # Without a declared proxy those headers are what any client likes to say.
            "proxy_headers": self.proxy is not None,
            "forwarded_allow_ips": self.proxy or "",
        }


def _state(*files: Path) -> list[tuple[int, int] | None]:
    """Return what changes when files do."""
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino))
    return found


def _no_password() -> str:
    return ""  # a server has nobody to ask


def _only_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
