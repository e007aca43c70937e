"""Kinds of things that no environment has here: empty collections, so that clients that look around find nothing."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Response

from console.api.asked import Asked, Asking
from console.api.errors import ApiError, CommandFailedError
from console.api.hal import Collection, Id, Paged, Resource, answers, collection, reply, router
from store.access import NoSuchEnvironmentError, places_of

ABSENT = ("backup_retention_policies", "backups", "certificates", "databases", "log_drains", "metric_drains")
"""What there is none of, by the relation that leads to it."""

Kind = Annotated[str, Path(json_schema_extra={"enum": list(ABSENT)})]

routes = router("absent")


class Nothing(Resource):
    """One of them, if there were one."""


def _found(asked: Asked, account_id: int, kind: str) -> str:
    """Return the link of an environment of the user's. Raises NoSuchEnvironmentError, ApiError for another kind."""
    with asked.reading() as (connection, user):
        if account_id not in [place.id for place in places_of(connection, user)]:
            raise NoSuchEnvironmentError(str(account_id))
    if kind not in ABSENT:
        raise ApiError(HTTPStatus.NOT_FOUND, "not_found", "nothing matches the given URI")
    return asked.href("accounts", account_id)


@routes.get("/accounts/{account_id}/{kind}", **answers(Collection[Nothing]))
def list_nothing(asked: Asking, account_id: Id, kind: Kind, page: Paged) -> Response:
    """List what an environment has of a kind that there is none of here."""
    account = _found(asked, account_id, kind)
    nothing: list[Nothing] = []
    return reply(collection(f"{account}/{kind}", kind, nothing, page, 0, account=account))


@routes.post("/accounts/{account_id}/{kind}", **answers(Nothing, 201))
def create_nothing(asked: Asking, account_id: Id, kind: Kind) -> Response:
    """Refuse."""
    _found(asked, account_id, kind)
    raise CommandFailedError(2, f"there are no {kind.replace('_', ' ')} on this server")
