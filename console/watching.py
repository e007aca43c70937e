"""What machines that watch the server ask over HTTP: `/healthz`, `/readyz`, `/metrics`.

The metrics tell nothing secret, but how busy a server is is nobody's business. So a stranger gets them only on the
loopback address, or with the token that the operator has set.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from console import metrics
from console.metrics import Metrics
from console.readiness import Readiness
from store.secret import Secret

FORWARDED = ("forwarded", "x-forwarded-for")
"""Headers of a proxy in front of us (RFC 7239, and what came before it): who asks is then not who connects."""


class Watching:
    """Answers who watches. `token` is what opens the metrics, None where only this machine may have them."""

    def __init__(self, readiness: Readiness, measured: Metrics, token: Secret | None) -> None:
        self._readiness = readiness
        self._metrics = measured
        self._token = token

    def routes(self, *, trusted: bool) -> list[Route]:
        """Return the routes; `trusted` is whether all who can ask are the operator's."""
        return [
            Route("/healthz", _healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._all if trusted else self._guarded(self._all)),
        ]

    async def _readyz(self, _request: Request) -> Response:
        answer = await asyncio.to_thread(self._readiness.now)
        parts = {name: {"ok": problem is None} for name, problem in answer.problems.items()}
        told = {
            name: {**part, "reason": problem} if (problem := answer.problems[name]) else part
            for name, part in parts.items()
        }
        if answer.ready:
            return JSONResponse({"ready": True, "checks": told})
        reasons = "; ".join(f"{name}: {problem}" for name, problem in answer.problems.items() if problem)
        return JSONResponse(
            {"ready": False, "error": f"the server is not ready. {reasons}", "checks": told}, status_code=503
        )

    async def _all(self, _request: Request) -> Response:
        answer = await asyncio.to_thread(self._readiness.now)
        return Response(await asyncio.to_thread(self._metrics.exposition, answer), media_type=metrics.CONTENT_TYPE)

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if self._token is None:
                if _from_this_machine(request):
                    return await answer(request)
                return PlainTextResponse(
                    "the metrics are for this machine alone, unless whoever runs the server sets "
                    "SLIPWAY_METRICS_TOKEN_FILE\n",
                    status_code=403,
                )
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if secrets.compare_digest(given.encode(), self._token.reveal().encode()):
                return await answer(request)
            return PlainTextResponse(
                "the metrics take the token of SLIPWAY_METRICS_TOKEN_FILE\n",
                status_code=401,
                headers={"WWW-Authenticate": "Bearer"},
            )

        return guarded


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _from_this_machine(request: Request) -> bool:
    """Return whether the client is on the loopback address, and nobody stands in front of it."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
