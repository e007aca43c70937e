"""The end of an app: what runs of it, what is recorded of it, and what it left on the disk and on the engine.

Every step may be done twice, so an operation that was cut off anywhere is simply run again by the next start. What
stays is the operations with their logs, for whoever could read them before.
"""

from __future__ import annotations

import structlog

from hooks import collection
from hooks.log import OperationLog
from hooks.repository import BareRepository
from hooks.steps import Steps
from releaser.releaser import Releaser
from store import apps, operations
from store.database import Store
from store.errors import SlipwayError
from store.operations import Operation

events = structlog.get_logger()


def deprovision(
    operation: Operation,
    log: OperationLog,
    step: Steps,
    *,
    store: Store,
    releaser: Releaser,
    repository: BareRepository,
    engine: str | None,
) -> None:
    """Take an app away, and record that it is gone.

    Raises SlipwayError if its route or a container cannot be removed; the records still have the app then, and whoever
    compares what runs with them brings it back.
    """
    with store.read() as connection:
        app = apps.by_id(connection, operation.app_id)
    log.line("-----> Removing the route and the containers")
    with step("take_down"):
        releaser.remove(app.id)
    log.line("-----> Removing releases, config, repository and images")
    with step("forget"), store.write() as connection:
        apps.delete(connection, app)
    with step("remove_repository"):
        repository.remove()
    try:
        with step("remove_images"):
            collection.forget(store, engine, app)
    except SlipwayError as error:
        # The app is gone; an image more or less is no reason to say that it is not.
        log.line(f"its images stay until the engine answers again: {error}")
    with step("commit"), store.write() as connection:
        operations.finish(connection, operation, "succeeded")
    log.line(f"-----> {app.handle} is gone; its name is free")
