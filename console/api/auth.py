"""Logging in and out, and who somebody is: the auth half of the interface."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Literal

import anyio.to_thread
from fastapi import Request, Response
from pydantic import BaseModel, Field, ValidationError, field_validator
from starlette.responses import JSONResponse

from console.api.accounts import SINCE
from console.api.asked import Asked, Asking, Site, site
from console.api.connections import subscriber
from console.api.errors import LOGIN, ApiError, Problem
from console.api.hal import Collection, Id, Moment, Paged, Resource, answers, collection, links, reply, router
from store import audit, passwords, tokens, users
from store.audit import Deed, Origin
from store.errors import RefusedError
from store.secret import Secret
from store.tokens import Scope, Token
from store.users import User

LIFETIME_SECONDS = 12 * 3600
"""How long a token is good for where the client does not say."""

LONGEST_SECONDS = 30 * 24 * 3600
"""The longest that it may say; more is taken for this."""

MOST_BYTES = 16_384
"""Of a login's body."""

MOST_WAITING = 100
"""Logins that wait for their turn, some seconds; more are sent away."""

NOBODY = "?"
"""Who tries to log in under a name that nobody has. What they wrote is not told: it may be a password."""

WAYS = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")

routes = router("auth")


class Login(BaseModel):
    """The resource owner password credentials grant (RFC 6749, section 4.3.2), as a form or as JSON."""

    grant_type: Literal["password"]
    username: str = Field(min_length=1, max_length=254)
    password: str = Field(min_length=1, max_length=passwords.LONGEST)
    scope: str | None = None
    expires_in: int | None = Field(default=None, ge=1)
    otp_token: str | None = None
    """Taken and not looked at: there is no second factor here."""

    @field_validator("expires_in", mode="before")
    @classmethod
    def _of_a_form(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class AccessToken(BaseModel):
    """What a login is answered with (RFC 6749, section 5.1), and what Aptible's client reads beside it."""

    id: str
    kind: Literal["token"] = Field(default="token", serialization_alias="_type")
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  (the kind of token)
    scope: Scope
    expires_in: int
    """In seconds."""
    expires_at: int
    """In seconds since 1970."""
    created_at: Moment
    links: dict[str, Any] = Field(serialization_alias="_links")


class CurrentToken(Resource):
    """The token of a request, as far as it may be told."""

    id: str
    kind: Literal["token"] = Field(default="token", serialization_alias="_type")
    scope: Scope
    expires_at: int
    created_at: Moment


class UserResource(Resource):
    """A user."""

    id: str
    kind: Literal["user"] = Field(default="user", serialization_alias="_type")
    name: str
    email: str
    username: str
    verified: bool = True
    superuser: bool


class Organization(Resource):
    """The server, as the owner of everything on it."""

    id: str
    kind: Literal["organization"] = Field(default="organization", serialization_alias="_type")
    name: str
    handle: str
    created_at: Moment = SINCE
    updated_at: Moment = SINCE


class Role(Resource):
    """What everybody with an account is: a member of the one organization."""

    id: str = "member"
    kind: Literal["role"] = Field(default="role", serialization_alias="_type")
    name: str = "Members"
    type: str = "member"


class Reauthentication(Resource):
    """An organization that asks for another way of logging in; there is none."""


async def _fields(request: Request) -> dict[str, Any]:
    """Return what a login says, as a form or as JSON. Raises ApiError."""
    body = await request.body()
    if len(body) > MOST_BYTES:
        raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "request_entity_too_large", "a login is not that long")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in WAYS[1:]:
        try:
            async with request.form(max_files=0, max_fields=20) as form:
                return {name: value for name, value in form.items() if isinstance(value, str)}
        except Exception as error:
            raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_request", "the form cannot be read") from error
    try:
        fields = json.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_request", "a login is a form, or a JSON object")
    return fields


def _log_in(here: Site, wanted: Login, address: str, base: str) -> AccessToken:
    name = wanted.username.strip().lower()
    whose = (f"name {name}", f"address {subscriber(address)}")
    here.attempts.check(*whose)
    store = here.room.store
    with store.read() as connection:
        user, sealed = passwords.sealed_of(connection, name)
    # Outside of the records: it is slow, and takes as long for a name that nobody has.
    fits = passwords.fits(sealed, Secret(wanted.password))
    if user is None or not fits:
        here.attempts.failed(*whose)
        _enter_refusal(here, user, address)
        raise ApiError(HTTPStatus.UNAUTHORIZED, "invalid_credentials", "name and password do not fit")
    here.attempts.succeeded(whose[0])
    scope: Scope = "read" if wanted.scope == "read" else "manage"
    lifetime = min(wanted.expires_in or LIFETIME_SECONDS, LONGEST_SECONDS)
    deed = Deed(user.name, Origin("http", address), "login", to_enter=True)
    with audit.accounted(store.write, deed), store.write() as connection:
        if passwords.sealed_of(connection, name) != (user, sealed):
            raise ApiError(HTTPStatus.UNAUTHORIZED, "invalid_credentials", "name and password do not fit any more")
        token = tokens.add(connection, user, scope, timedelta(seconds=lifetime))
        email = passwords.email_of(connection, user)
    return AccessToken(
        id=token.id,
        access_token=here.key.sign(token, user, email, base),
        scope=scope,
        expires_in=lifetime,
        expires_at=int(token.expires_at.timestamp()),
        created_at=token.created_at,
        links=links(self=f"{base}/tokens/{token.id}", user=f"{base}/users/{user.id}"),
    )


def _enter_refusal(here: Site, user: User | None, address: str) -> None:
    """Enter a wrong password in the audit log. It takes as long for a name that nobody has."""
    if not here.attempts.to_be_entered():
        return
    deed = Deed(user.name if user else NOBODY, Origin("http", address), "login")
    with suppress(RefusedError), audit.accounted(here.room.store.write, deed):
        raise RefusedError


_BODY = {
    "required": True,
    "content": {kind: {"schema": Login.model_json_schema()} for kind in WAYS[:2]},
}


@routes.post(
    LOGIN,
    status_code=HTTPStatus.CREATED,
    response_model=None,
    response_class=JSONResponse,
    responses={201: {"model": AccessToken}, 429: {"model": Problem, "description": "Too many wrong passwords"}},
    openapi_extra={"requestBody": _BODY},
)
async def log_in(request: Request) -> Response:
    """Log in with a name, or an e-mail address, and a password."""
    fields = await _fields(request)
    if fields.get("grant_type") not in (None, "password"):
        raise ApiError(HTTPStatus.BAD_REQUEST, "unsupported_grant_type", "log in with grant_type password")
    try:
        wanted = Login.model_validate(fields)
    except ValidationError as error:
        # By name alone: pydantic would tell the values, and one is the password.
        wrong = ", ".join(sorted({str(each["loc"][0]) for each in error.errors()}))
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_request", f"missing or not as it should be: {wrong}") from None
    here = site(request)
    address = request.client.host if request.client else ""
    if here.logins.statistics().tasks_waiting >= MOST_WAITING:
        raise ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many log in at once; try again", {"Retry-After": "5"}
        )
    # Two at a time, the others without a thread: hashing is slow on purpose, and strangers decide how often it is done.
    # So no more than two guesses are under way that the count of wrong ones does not know of yet.
    made = await anyio.to_thread.run_sync(_log_in, here, wanted, address, here.base(request), limiter=here.logins)
    # RFC 6749, section 5.1, wants that no cache keeps it.
    return Response(
        made.model_dump_json(by_alias=True),
        HTTPStatus.CREATED,
        {"Cache-Control": "no-store"},
        "application/json",
    )


def _mine(asked: Asked) -> tuple[User, Token]:
    with asked.reading() as (connection, user):
        found = [token for token in tokens.of_user(connection, user) if token.id == asked.claims.token_id]
    return user, found[0]


@routes.get("/current_token", **answers(CurrentToken))
def show_token(asked: Asking) -> Response:
    """Show the token of this request."""
    user, token = _mine(asked)
    return reply(
        CurrentToken(
            id=token.id,
            scope=token.scope,
            expires_at=int(token.expires_at.timestamp()),
            created_at=token.created_at,
            links=links(
                self=asked.href("tokens", token.id),
                user=asked.href("users", user.id),
                actor=asked.href("users", user.id),
            ),
        )
    )


@routes.delete("/tokens/{token_id}", status_code=204, response_class=Response)
def log_out(asked: Asking, token_id: str) -> Response:
    """Let a token of yours be good for nothing from now on."""
    asked.run("tokens:revoke", "--", token_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@routes.get("/reauthenticate_organizations", **answers(Collection[Reauthentication]))
def list_reauthentications(asked: Asking, page: Paged) -> Response:
    """List organizations that ask for another login: none."""
    with asked.reading():
        nothing: list[Reauthentication] = []
    return reply(
        collection(asked.href("reauthenticate_organizations"), "reauthenticate_organizations", nothing, page, 0)
    )


@routes.get("/users/{user_id}", **answers(UserResource))
def show_user(asked: Asking, user_id: Id) -> Response:
    """Show yourself; administrators may see anybody."""
    with asked.reading() as (connection, me):
        shown = users.by_id(connection, user_id) if me.admin else me
        if shown is None or shown.id != user_id:
            raise ApiError(HTTPStatus.NOT_FOUND, "not_found", "there is no such user that you may see")
        email = passwords.email_of(connection, shown)
    href = asked.href("users", shown.id)
    return reply(
        UserResource(
            id=str(shown.id),
            name=shown.name,
            email=email or shown.name,
            username=shown.name,
            superuser=shown.admin,
            links=links(self=href, roles=f"{href}/roles"),
        )
    )


@routes.get("/users/{user_id}/roles", **answers(Collection[Role]))
def list_roles(asked: Asking, user_id: Id, page: Paged) -> Response:
    """List your roles in organizations; what you may do with apps is told by `access` over SSH."""
    with asked.reading() as (_, me):
        if me.id != user_id:
            raise RefusedError("you may see your own roles only")
    organization = asked.href("organizations", asked.room.store.instance())
    role = Role(links=links(self=f"{organization}/roles/member", organization=organization))
    href = asked.href("users", user_id, "roles")
    return reply(collection(href, "roles", page.of([role]), page, 1))


def _organization(asked: Asked) -> Organization:
    instance = asked.room.store.instance()
    return Organization(
        id=instance,
        name=asked.room.addresses.host,
        handle=asked.room.addresses.host,
        links=links(self=asked.href("organizations", instance)),
    )


@routes.get("/organizations", **answers(Collection[Organization]))
def list_organizations(asked: Asking, page: Paged) -> Response:
    """List organizations: the server."""
    with asked.reading():
        found = [_organization(asked)]
    return reply(collection(asked.href("organizations"), "organizations", page.of(found), page, 1))


@routes.get("/organizations/{organization_id}", **answers(Organization))
def show_organization(asked: Asking, organization_id: str) -> Response:
    """Show the server as an organization."""
    with asked.reading():
        found = _organization(asked)
    if found.id != organization_id:
        raise ApiError(HTTPStatus.NOT_FOUND, "not_found", "there is no such organization")
    return reply(found)
