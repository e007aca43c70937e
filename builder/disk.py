"""The disk that the engine keeps images on: how full it is, and how a build tells that it met its end."""

from __future__ import annotations

import os
import threading

from builder.engine import IsolatedClient, session
from store.errors import SlipwayError


class DiskFullError(SlipwayError):
    """The engine's disk is full. Nothing was released."""


def full(client: IsolatedClient, what: str) -> DiskFullError:
    """Return the error of something, such as `The build`, that ended for want of space."""
    return DiskFullError(
        f"{what} failed, since there is no space left on the disk of the Docker engine ({_folder(client)}); an "
        "administrator can remove what no release needs with slipway gc, or make room there. What ran goes on running."
    )


def used(engine: str | None) -> int | None:
    """Return how full the engine's disk is, in percent; None where it is not a disk of this machine.

    Raises EngineUnreachableError.
    """
    with session(engine, threading.Event()) as client:
        if not client.address.startswith("unix://"):
            return None
        try:
            disk = os.statvfs(_folder(client))
        except OSError:
            return None
    # As df(1) counts: what is kept for root is not there for anybody else.
    taken = disk.f_blocks - disk.f_bfree
    return -(-100 * taken // ((taken + disk.f_bavail) or 1))


def _folder(client: IsolatedClient) -> str:
    return str(client.info().get("DockerRootDir") or "/var/lib/docker")
