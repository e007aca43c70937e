"""Images from outside that a build takes from: allowed by their registries, pulled, and named by their ids.

The engine's store is shared by all apps. A tag in it can be moved by another app's pull, and whatever is in it is
handed out without asking a registry. So every image is asked for with this app's credentials (builder.registry), pulled
by the digest that the registry named, and from then on known by its id, which means the same content for ever.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import requests
from docker.errors import APIError, NotFound

from builder import disk, output, registry, registry_connection
from builder.credentials import RegistryCredentials
from builder.engine import IsolatedClient, TimeLimitError
from builder.reference import Reference
from builder.registry import Permission
from store.errors import CancelledError, SlipwayError

MOST_AT_ONCE = 8
"""Registries' answers that are waited for at the same time."""
LONGEST_WAIT_SECONDS = 60.0
"""For all of them together. Time-outs of single reads do not end an answer that comes byte by byte."""
LOOK_SECONDS = 0.02
"""How often a wait for registries looks for a cancellation."""


class PullFailedError(SlipwayError):
    """The registry allows the image and the engine could not pull it."""


class LocalImageMissingError(SlipwayError):
    """An image that the administrator keeps on the engine is not there."""


@dataclass(frozen=True)
class Base:
    """An image in the engine's store that this app may use."""

    id: str
    inspection: Mapping[str, Any]
    """The engine's answer to `GET /images/NAME/json`."""


def ask_all(
    references: Iterable[Reference],
    credentials: RegistryCredentials,
    say: Callable[[str], None],
    cancelled: threading.Event,
    deadline: float,
) -> dict[Reference, Permission]:
    """Ask the registries of all references at the same time.

    Raises the RegistryError of the first reference, in their order, that may not be used; CancelledError as soon as
    `cancelled` is set, TimeLimitError when `deadline` (time.monotonic()) has passed.
    """
    wanted = list(dict.fromkeys(references))
    if not wanted:
        return {}
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    with ExitStack() as stack:
        pool = concurrent.futures.ThreadPoolExecutor(min(MOST_AT_ONCE, len(wanted)), "registry")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        answers = []
        for each in wanted:
            registry_session = stack.enter_context(registry_connection.open_session(each.host))
            # Whoever cancelled does not wait for a silent registry, and its thread does not either.
            stack.callback(registry_session.interrupt)
            answers.append(pool.submit(_ask, each, credentials, registry_session))
        while concurrent.futures.wait(answers, LOOK_SECONDS).not_done:
            if cancelled.is_set():
                raise CancelledError("cancelled")
            if time.monotonic() > deadline:
                raise TimeLimitError("the time limit was reached")
            if time.monotonic() > until:
                raise registry.RegistryUnreachableError(
                    f"The registry {next(e.host for e, a in zip(wanted, answers, strict=True) if not a.done())} takes "
                    f"longer than {LONGEST_WAIT_SECONDS:.0f} seconds to answer; try again later."
                )
        permissions = {each: answer.result() for each, answer in zip(wanted, answers, strict=True)}
    for host in sorted({each.host for each, permission in permissions.items() if permission.credentials_refused}):
        say(f"{host} refuses the app's registry credentials; what is used of it is public, so it is pulled without\n")
    return permissions


def _ask(reference: Reference, credentials: RegistryCredentials, session: requests.Session) -> Permission:
    return registry.ask(reference, credentials.for_host(reference.host), session)


def local(client: IsolatedClient, reference: Reference) -> Base:
    """Return an image that the administrator keeps on the engine for every app. Raises LocalImageMissingError."""
    try:
        inspection = client.image(str(reference))
    except NotFound:
        raise LocalImageMissingError(
            f"{reference} is among SLIPWAY_LOCAL_IMAGES, and the engine has no such image; the server's administrator "
            "has to put it there."
        ) from None
    return Base(inspection["Id"], inspection)


def pull(
    client: IsolatedClient,
    reference: Reference,
    permission: Permission,
    platform: str | None,
    say: Callable[[str], None],
) -> Base:
    """Have the engine pull exactly the manifest that the registry named, unless it is there.

    `platform` as in `--platform=`, None for the engine's own. Raises PullFailedError.
    """
    exact = reference.at(permission.digest)
    if platform is None and (there := _own_platform(client, exact)):
        return there
    say(f"Pulling {reference}\n")
    credentials = permission.credentials
    shown = (
        {"username": credentials.username.reveal(), "password": credentials.password.reveal()} if credentials else {}
    )
    try:
        for line in output.pull_lines(
            client.pull(
                reference.name, permission.digest, stream=True, decode=True, auth_config=shown, platform=platform
            )
        ):
            say(line)
        inspection = client.image(exact)
    except (APIError, ValueError) as error:
        said = error.explanation if isinstance(error, APIError) else str(error)
        if output.NO_SPACE in str(said).lower():
            raise disk.full(client, f"Pulling {reference}") from None
        raise PullFailedError(f"The engine could not pull {reference}: {output.one_line(str(said))}.") from None
    return Base(inspection["Id"], inspection)


def _own_platform(client: IsolatedClient, exact: str) -> Base | None:
    """Return an image that is in the store already, unless somebody had it pulled for another platform."""
    try:
        inspection = client.image(exact)
    except NotFound:
        return None
    version = client.version()
    same = (inspection.get("Os"), inspection.get("Architecture")) == (version.get("Os"), version.get("Arch"))
    return Base(inspection["Id"], inspection) if same else None
