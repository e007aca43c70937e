"""Accounts and stacks: environments as public clients know them, and the one place where all of them run."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Literal

from fastapi import Response
from pydantic import Field

from console.api.absent import ABSENT
from console.api.asked import Asked, Asking
from console.api.errors import ApiError
from console.api.hal import Collection, Id, Moment, Paged, Resource, answers, collection, links, reply, router
from store.access import NoSuchEnvironmentError, Place, places_of
from store.apps import of_user

STACK_ID = 1
"""The server itself is the one stack."""

SINCE = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
"""When the stack began, which nobody records; clients want a time."""

routes = router("accounts")


class Account(Resource):
    """An environment. What this server does not have is null, zero or false; clients require the names."""

    id: int
    kind: Literal["account"] = Field(default="account", serialization_alias="_type")
    type: Literal["production"] = "production"
    name: str
    handle: str
    number: str
    onboarding_status: str = "completed"
    activated: bool = True
    syslog_host: str | None = None
    syslog_port: int | None = None
    bastion_host: str | None = None
    bastion_port: int = 0
    ssh_portal_port: int | None
    container_count: int = 0
    domain_count: int = 0
    total_disk_size: int = 0
    total_app_count: int
    app_container_count: int = 0
    database_container_count: int = 0
    total_database_count: int = 0
    sweetness_stack: str | None = None
    sweetness_stack_version: str | None = None
    gentlemanjerry_endpoint: str | None = None
    gentlemanjerry_certificate: str | None = None
    gentlemanjerry_docker_name: str | None = None
    gentlemanjerry_instance_id: str | None = None
    ca_body: str | None = None
    created_at: Moment
    updated_at: Moment
    embedded: dict[str, list[object]] = Field(serialization_alias="_embedded")


class Stack(Resource):
    """The server: above all, where its SSH portal is."""

    id: int = STACK_ID
    kind: Literal["stack"] = Field(default="stack", serialization_alias="_type")
    name: str
    version: str = "v2"
    region: str = "local"
    default: bool = True
    public: bool = False
    ssh_portal_host: str
    ssh_portal_port: int
    ssh_host_rsa_public_key: str
    """The server's host key, whatever its type: clients write it into their known_hosts as it is (sshd(8))."""
    ssh_host_dsa_public_key: str = ""
    ssh_host_ecdsa_public_key: str = ""
    outbound_ip_addresses: list[str] = Field(default_factory=list)
    memory_limits: bool = True
    cpu_limits: bool = True
    intrusion_detection: bool = False
    expose_intrusion_detection_reports: bool = False
    allow_c_instance_profile: bool = False
    allow_m_instance_profile: bool = True
    allow_r_instance_profile: bool = False
    account_id: str | None = None
    vpc_id: str | None = None
    internal_domain: str | None = None
    default_domain: str | None
    brickwall_enabled: bool = False
    created_at: Moment = SINCE
    updated_at: Moment = SINCE


def _account(asked: Asked, place: Place, apps: int) -> Account:
    href = asked.href("accounts", place.id)
    return Account(
        id=place.id,
        name=place.handle,
        handle=place.handle,
        number=str(place.id),
        ssh_portal_port=asked.room.addresses.ssh_port,
        total_app_count=apps,
        created_at=place.created_at,
        updated_at=place.created_at,
        embedded={"log_drains": [], "permissions": []},
        links=links(
            self=href,
            apps=f"{href}/apps",
            **{kind: f"{href}/{kind}" for kind in ABSENT},
            stack=asked.href("stacks", STACK_ID),
            organization=asked.href("organizations", asked.room.store.instance()),
        ),
    )


def _stack(asked: Asked) -> Stack:
    addresses = asked.room.addresses
    return Stack(
        name=addresses.domain or addresses.host,
        ssh_portal_host=addresses.host,
        ssh_portal_port=addresses.ssh_port,
        ssh_host_rsa_public_key=asked.site.host_key,
        default_domain=addresses.domain,
        links=links(
            self=asked.href("stacks", STACK_ID),
            accounts=asked.href("accounts"),
            organization=asked.href("organizations", asked.room.store.instance()),
        ),
    )


def _accounts(asked: Asked) -> list[Account]:
    with asked.reading() as (connection, user):
        mine = of_user(connection, user)
        return [
            _account(asked, place, sum(app.environment_id == place.id for app in mine))
            for place in places_of(connection, user)
        ]


@routes.get("/accounts", **answers(Collection[Account]))
def list_accounts(asked: Asking, page: Paged) -> Response:
    """List the environments that you have a role in."""
    found = _accounts(asked)
    return reply(collection(asked.href("accounts"), "accounts", page.of(found), page, len(found)))


@routes.get("/accounts/{account_id}", **answers(Account))
def show_account(asked: Asking, account_id: Id) -> Response:
    """Show an environment."""
    for account in _accounts(asked):
        if account.id == account_id:
            return reply(account)
    raise NoSuchEnvironmentError(str(account_id))


@routes.get("/find/account", **answers(Account))
def find_account(asked: Asking, handle: str) -> Response:
    """Show the environment of this name."""
    for account in _accounts(asked):
        if account.handle == handle:
            return reply(account)
    raise NoSuchEnvironmentError(handle)


@routes.get("/stacks", **answers(Collection[Stack]))
def list_stacks(asked: Asking, page: Paged) -> Response:
    """List where environments are: on this server."""
    with asked.reading():
        stacks = [_stack(asked)]
    return reply(collection(asked.href("stacks"), "stacks", page.of(stacks), page, len(stacks)))


@routes.get("/stacks/{stack_id}", **answers(Stack))
def show_stack(asked: Asking, stack_id: Id) -> Response:
    """Show this server."""
    with asked.reading():
        if stack_id != STACK_ID:
            raise ApiError(HTTPStatus.NOT_FOUND, "not_found", f"there is one stack, {STACK_ID}")
        return reply(_stack(asked))
