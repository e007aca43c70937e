"""Managed certificates: asked for when an endpoint is made, and again in good time before they expire.

Whatever fails, the certificate that is there stays in use.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from releaser import certificate
from releaser.acme import Acme
from releaser.releaser import Releaser
from releaser.route import Certificate
from store import apps, endpoints
from store.apps import App
from store.database import Store
from store.endpoints import Endpoint
from store.errors import SlipwayError, UsageError
from store.secret import Secret

log = structlog.get_logger()

RENEW_BEFORE = timedelta(days=30)
"""How long before its end a certificate is renewed; for one that lives shorter than 90 days it is a third of its life.
That is what Let's Encrypt recommends (its integration guide, "When to renew")."""

RETRY_AFTER = timedelta(hours=6)
"""Between two attempts that fail: far below every authority's limit, and some hundred attempts until the end."""


class NotManagedError(UsageError):
    """The server has no certificate authority."""


class Certificates:
    """Gets certificates from the authority `acme`; None where whoever runs the server has named none.

    `mend` makes an app answer with what the records say.
    """

    def __init__(self, store: Store, releaser: Releaser, acme: Acme | None, mend: Callable[[App], None]) -> None:
        self._store = store
        self._releaser = releaser
        self._acme = acme
        self._mend = mend

    def issue(self, host: str) -> Secret:
        """Return a new certificate for a host name. Raises NotManagedError, AcmeError or CertificateError."""
        if self._acme is None:
            raise NotManagedError(
                "this server has no certificate authority; whoever runs it can set SLIPWAY_ACME_DIRECTORY"
            )
        bundle = certificate.bundle(self._acme.order(host), host)
        self._releaser.check_certificate(Certificate.of(bundle))
        return bundle

    def renew(self, endpoint: Endpoint) -> None:
        """Replace a managed certificate. Raises what `issue` raises; the records then tell why."""
        if endpoint.host is None:
            raise ValueError("a TCP port has no certificate")
        try:
            bundle = self.issue(endpoint.host)
        except SlipwayError as error:
            with self._store.write() as connection:
                endpoints.renewal_failed(connection, endpoint, str(error))
            raise
        with self._store.write() as connection:
            known = endpoints.managed(connection, self._store.seal)
            now = next((each for each in known if each.id == endpoint.id), None)
            if now is None:
                return  # its owner has removed it meanwhile, or given it a certificate of their own
            endpoints.change(connection, self._store.seal, now, certificate=bundle, managed=True, redirect=now.redirect)
            app = apps.by_id(connection, endpoint.app_id)
        log.info("a certificate was renewed", host=endpoint.host, app=app.handle)
        self._mend(app)

    def renew_due(self, now: datetime | None = None) -> None:
        """Renew every managed certificate whose time has come at `now`, by default the present. Failures are logged."""
        with self._store.read() as connection:
            managed = endpoints.managed(connection, self._store.seal)
        for endpoint in managed:
            if not due(endpoint, now or datetime.now(UTC)):
                continue
            try:
                self.renew(endpoint)
            except SlipwayError as error:
                log.error("a certificate could not be renewed", host=endpoint.host, error=str(error))


def due(endpoint: Endpoint, now: datetime) -> bool:
    """Return whether a managed certificate is to be renewed now: its end is near, and the last failure is not."""
    if endpoint.certificate is None:
        return False
    begin, end = certificate.validity(endpoint.certificate)
    if now < end - min(RENEW_BEFORE, (end - begin) / 3):
        return False
    return endpoint.renewal_tried_at is None or now >= endpoint.renewal_tried_at + RETRY_AFTER
