"""`slipway down`: what a server has made on its engine is removed; its records stay."""

from __future__ import annotations

import fcntl
import os

from console.router import open_router
from console.settings import Settings
from releaser.releaser import Releaser
from store.database import Store
from store.errors import SlipwayError


class StillServingError(SlipwayError):
    """The data folder's server is running."""


def tear_down(settings: Settings) -> None:
    """Remove a data folder's containers, network and proxy; raises StillServingError while its server runs."""
    store = Store.open(settings.data)
    settings.data.create()
    with settings.data.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StillServingError(f"a server is serving {settings.data.root}; stop it first") from error
        proxy = open_router(settings)
        Releaser(engine=os.environ.get("DOCKER_HOST"), instance=store.instance(), proxy=proxy).remove_everything()
    store.close()
