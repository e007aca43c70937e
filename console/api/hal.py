"""HAL (draft-kelly-json-hal): resources with their links, and collections of them, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field, PlainSerializer
from starlette.responses import JSONResponse

from console.api.errors import MEDIA_TYPE, Problem

PER_PAGE = 40
"""Resources on a page, where the client does not say."""

MOST_PER_PAGE = 5000
"""What Aptible's command line asks for when it wants everything."""

Moment = Annotated[
    datetime,
    PlainSerializer(lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), return_type=str),
]
"""RFC 3339, in UTC, as every client of Aptible's parses it."""


class Link(BaseModel):
    """Where something is, as an absolute URL: clients take it apart."""

    href: str


class Resource(BaseModel):
    """What every resource has beside its own fields."""

    links: dict[str, Link] = Field(serialization_alias="_links")


_Resource = TypeVar("_Resource", bound=BaseModel)


class Collection(Resource, Generic[_Resource]):
    """A page of resources, under the one name in `_embedded`, which is there even when it is empty."""

    total_count: int
    per_page: int
    current_page: int
    embedded: dict[str, list[_Resource]] = Field(serialization_alias="_embedded")


@dataclass(frozen=True)
class Page:
    """Which part of a collection is asked for."""

    per_page: int
    number: int
    no_embed: bool
    """Whether the client can do without what is embedded in each resource."""

    @property
    def offset(self) -> int:
        """How many resources come before it."""
        return (self.number - 1) * self.per_page

    def of(self, everything: Sequence[_Item]) -> Sequence[_Item]:
        """Return the part of a whole."""
        return everything[self.offset : self.offset + self.per_page]


_Item = TypeVar("_Item")


async def _page(
    per_page: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = PER_PAGE,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    no_embed: bool = False,
) -> Page:
    return Page(per_page, page, no_embed)


Paged = Annotated[Page, Depends(_page)]


Id = Annotated[int, Path(ge=1, le=(1 << 63) - 1)]
"""The number of a record in a path, as far as the records can count."""


def links(**hrefs: str | None) -> dict[str, Link]:
    """Return links by relation; a relation without a target is left out."""
    return {relation: Link(href=href) for relation, href in hrefs.items() if href is not None}


def collection(
    href: str, name: str, resources: Sequence[_Resource], page: Page, total: int, **more: str
) -> Collection[_Resource]:
    """Return one page of the collection at `href`; `more` are further links.

    The collection's own link is without the page, since it is what clients create by.
    """

    def at(number: int) -> str:
        query = {"per_page": page.per_page, "page": number, **({"no_embed": "true"} if page.no_embed else {})}
        return f"{href}?{urlencode(query)}"

    return Collection(
        total_count=total,
        per_page=page.per_page,
        current_page=page.number,
        links=links(
            self=href,
            next=at(page.number + 1) if page.number * page.per_page < total else None,
            prev=at(page.number - 1) if page.number > 1 else None,
            **more,
        ),
        embedded={name: list(resources)},
    )


class HalResponse(JSONResponse):
    """An answer in HAL, given as the JSON text that it is."""

    media_type = MEDIA_TYPE

    def render(self, content: str) -> bytes:
        """Return the text as it is."""
        return content.encode()


def reply(body: BaseModel, status: int = HTTPStatus.OK) -> Response:
    """Return a resource as an answer."""
    return HalResponse(body.model_dump_json(by_alias=True), status)


def answers(model: Any, status: int = HTTPStatus.OK) -> dict[str, Any]:
    """Return what a route declares of its answer, for the OpenAPI description alone.

    Answers are made by `reply`: resources are checked when they are made, and need not be a second time.
    """
    told = {"model": model, "description": HTTPStatus(status).phrase}
    return {"status_code": status, "response_model": None, "responses": {status: told}}


def router(tag: str) -> APIRouter:
    """Return a router whose answers are in HAL, errors included."""
    return APIRouter(
        tags=[tag],
        default_response_class=HalResponse,
        responses={"4XX": {"model": Problem, "description": "What is wrong, and what to do"}},
    )
