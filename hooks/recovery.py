"""A start: what a stop of any kind has left half done is ended or completed, and what waited is queued again.

Everything here may be done twice, since a start may be cut off as well.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

import structlog

from hooks import commit_point
from hooks.endings import Endings
from hooks.repository import BareRepository
from hooks.request import Request
from store import apps, operations, releases
from store.apps import App
from store.database import Store
from store.operations import Operation

log = structlog.get_logger()


def recover(
    store: Store,
    endings: Endings,
    repository: Callable[[int], BareRepository],
    enqueue: Callable[[Operation, Request], None],
) -> None:
    """Bring records and branches into agreement, and hand what waited to `enqueue`, in order of arrival.

    To be called before anything else: only the engine room moves deploying branches and hidden refs. Raises
    DiskFullError if there is no room to record how an operation ended.
    """
    with store.read() as connection:
        left_over = operations.unfinished(connection)
        everywhere = apps.everywhere(connection)
    for app in everywhere:
        repository(app.id).clear_locks()
    for operation in left_over:
        # What takes an app away cannot be undone, so it is done again to its end.
        if operation.status == "running" and operation.type != "deprovision":
            endings.end_cut_off(operation)
    waiting = {operation.id for operation in left_over if operation.status == "queued"}
    for app in everywhere:
        try:
            agree(store, app, repository(app.id), waiting)
        except Exception:  # a repository that cannot be read is doctor's affair, and must not keep the others waiting
            log.exception("a repository does not agree with the records", app=app.handle)
    for operation in left_over:
        if operation.id in waiting or operation.type == "deprovision":
            with store.read() as connection:
                request = Request.load(operations.request(connection, store.seal, operation))
            if request.commit and operation.id in waiting:
                repository(operation.app_id).hold("operations", operation.id, request.commit)
            enqueue(operation, request)


def agree(store: Store, app: App, repository: BareRepository, unfinished: AbstractSet[int]) -> None:
    """Let an app's branches say what runs, and its hidden refs hold what is needed and nothing else.

    `unfinished` are the operations whose commits are still needed.
    """
    with store.read() as connection:
        known = releases.of_app(connection, app)
    now = repository.branches()
    wanted = commit_point.branches_after(known[0].artifact if known else None, now)
    if wanted != now:
        log.warning("branches are put where the records say", app=app.handle, before=now, after=wanted)
        repository.move(now, wanted)
    repository.keep_held("releases", {release.number for release in known})
    repository.keep_held("operations", unfinished)
