"""The HTTP application for strangers: the routes of public clients, and those of whoever watches the server."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from importlib import metadata

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.api import absent, accounts, apps, auth, endpoints, errors, operations, services
from console.api.asked import Site, site
from console.api.hal import Resource, links, reply, router
from console.api.remembering import Remembering

MOST_BYTES = 16 << 20
"""Of one request: some hundred of the longest config values, as over SSH."""

root = router("root")


class Root(Resource):
    """Where everything begins."""


@root.get("/", response_model=Root)
def show_root(request: Request) -> Response:
    """Show where the collections are. One address serves both halves, API and auth."""
    base = site(request).base(request)
    relations = (
        "accounts",
        "apps",
        "stacks",
        "organizations",
        "tokens",
        "current_token",
        "reauthenticate_organizations",
    )
    return reply(Root(links=links(self=f"{base}/", **{name: f"{base}/{name}" for name in relations})))


def application(here: Site, others: Sequence[BaseRoute] = ()) -> FastAPI:
    """Return the application; `others` are routes that are not the public clients'."""
    app = FastAPI(
        title="slipway",
        version=metadata.version("slipway"),
        summary="What Aptible's public clients ask of a server, in HAL.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = here
    for module in (auth, accounts, apps, services, endpoints, operations, absent):
        app.include_router(module.routes)
    app.include_router(root)
    app.router.routes.extend(others)
    errors.handle_in(app)
    app.add_middleware(Remembering, generation=lambda: here.room.store.generation)
    app.add_middleware(_Bounded)
    return app


class _Bounded:
    """Refuses requests that are larger than any that means something, before they are held in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            await self._refuse(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                # FastAPI takes any other error for a body that it cannot read.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self._app(scope, counted, send)

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
        answer = errors.answer(
            HTTPConnection(scope),
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "request_entity_too_large",
            "the request is too large",
        )
        await answer(scope, receive, send)
