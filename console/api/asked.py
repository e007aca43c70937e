"""Who asks, and for what: the one way from a request to the records and the commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from console import access
from console.api.errors import ApiError, CommandFailedError, InvalidTokenError
from console.api.login import Attempts, Claims, TokenKey
from console.grammar import Call, Outcome, Room, run
from store import apps, audit, tokens
from store.apps import App, NoSuchAppError
from store.audit import Deed, Origin
from store.errors import RefusedError
from store.users import User

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""What a Host header may be (RFC 9110, section 7.2) to become part of links."""

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token of POST /tokens.")


@dataclass(frozen=True)
class Site:
    """What every request is answered with."""

    room: Room
    key: TokenKey
    attempts: Attempts
    host_key: str
    """The SSH server's public key, `TYPE BASE64`."""
    url: str | None
    """The address that links begin with; None takes it from each request."""
    logins: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    """Logins that are looked at, at once."""

    def base(self, request: Request) -> str:
        """Return the address that links begin with. Raises ApiError for a Host header that is none."""
        if self.url is not None:
            return self.url
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise ApiError(HTTPStatus.BAD_REQUEST, "bad_request", "the Host header is not a name or address")
        return f"{request.url.scheme}://{host}"


def site(request: Request) -> Site:
    """Return the site that an application serves."""
    found: Site = request.app.state.site
    return found


class Asked:
    """A request whose token is signed by us. Its owner is looked up before it leads anywhere."""

    def __init__(self, here: Site, base: str, claims: Claims, origin: Origin, *, sensitive: bool) -> None:
        self.site = here
        self.room = here.room
        self.base = base
        self.claims = claims
        self._origin = origin
        self.sensitive = sensitive
        """Whether the client wants sensitive values: unless it says `Prefer: no_sensitive_extras=true` (RFC 7240)."""

    def user(self, connection: Connection) -> User:
        """Return who asks. Raises InvalidTokenError for a token that was revoked."""
        owner = tokens.owner(connection, self.claims.token_id)
        if owner is None:
            raise InvalidTokenError("invalid_token", "this login was revoked; log in again")
        return owner

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, User]]:
        """Yield the records as they are at one moment, and who asks. Raises InvalidTokenError."""
        with self.room.store.read() as connection:
            yield connection, self.user(connection)

    def app(self, connection: Connection, app_id: int, action: str) -> App:
        """Return an app on which the user has the role that the command `action` takes.

        Raises NoSuchAppError, RoleTooLowError, InvalidTokenError.
        """
        user = self.user(connection)
        with self.accounted(user, action, detail=f"id={app_id}", to_enter=False):
            app = apps.reachable_by_id(connection, user, app_id, need=access.needed(action))
            if app is None:
                raise NoSuchAppError(str(app_id))
        return app

    def accounted(
        self, user: User, action: str, *, app: str | None = None, detail: str | None = None, to_enter: bool = True
    ) -> AbstractContextManager[None]:
        """Enter in the audit log what the block does; or with `to_enter` False only that it was refused.

        `run` does so by itself: this is for what is answered without a command.
        """
        deed = Deed(user.name, self._origin, action, detail, app=app, to_enter=to_enter)
        return audit.accounted(self.room.store.write, deed)

    def call(self, action: str) -> Call:
        """Return a command's call by the user. Raises InvalidTokenError, RefusedError."""
        with self.reading() as (_, user):
            access.check(user, action)
            return Call(self.room, user, origin=self._origin, need=access.needed(action))

    def run(self, *words: str) -> Outcome:
        """Run the command that a request stands for, as if its words had come over SSH.

        Raises CommandFailedError, InvalidTokenError.
        """
        outcome = run(self.call(words[0]), words)
        if outcome.exit or outcome.needs_input:
            raise CommandFailedError(outcome.exit, outcome.error or "the command reads standard input")
        return outcome

    def href(self, *path: object) -> str:
        """Return a link."""
        return "/".join([self.base, *map(str, path)])


async def _asked(request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Asked:
    here = site(request)
    if bearer is None:
        raise InvalidTokenError
    claims = here.key.read(bearer.credentials)
    # One header or several, with the value as a word or in quotes (RFC 7240, section 2).
    preferences = re.sub(r'[\s"]', "", ",".join(request.headers.getlist("prefer")).lower())
    origin = Origin("http", request.client.host if request.client else None)
    asked = Asked(here, here.base(request), claims, origin, sensitive="no_sensitive_extras=true" not in preferences)
    if claims.scope != "manage" and request.method not in _LOOKING:
        await run_in_threadpool(_refuse_to_change, asked, f"{request.method} {request.scope['route'].path}")
    return asked


def _refuse_to_change(asked: Asked, what: str) -> None:
    with asked.reading() as (_, user), asked.accounted(user, "change", detail=what):
        raise RefusedError("this token is good for looking only; log in for more")


Asking = Annotated[Asked, Depends(_asked)]


def words_of(app: App) -> list[str]:
    """Return the words that name an app in a command."""
    return ["--app", app.handle, "--environment", app.environment]
