"""The commit point of an operation: branches, config and release move together, and the operation has succeeded.

It is one transaction of the records. The branches move just before it; what they were is recorded first, so that a
start which finds the operation unfinished puts them back (`hooks.recovery`).
"""

from __future__ import annotations

from contextlib import suppress

from hooks.plan import Plan
from hooks.repository import Branches
from hooks.steps import Steps
from store import apps, configs, operations, releases, services
from store.database import Store
from store.errors import SlipwayError
from store.releases import Artifact


def commit(store: Store, plan: Plan, artifact: Artifact, number: int | None, step: Steps) -> None:
    """Make `artifact` what runs. `number` None makes no release: the current one runs again.

    Raises StaleRefError if somebody else has moved a branch; then, and whatever else goes wrong, nothing has moved.
    """
    before, wanted = plan.branches, branches_after(artifact, plan.branches)
    if artifact.commit and number is not None:
        with step("hold_release"):
            plan.repository.hold("releases", number, artifact.commit)
    if wanted != before:
        with step("remember_branches"), store.write() as connection:
            operations.remember_branches(connection, plan.operation, before)
    with step("move_branches"):
        plan.repository.move(before, wanted)
    try:
        with step("commit"), store.write() as connection:
            if number is not None:
                config = plan.config
                if config.id is None:
                    config = configs.add(connection, store.seal, plan.app, config.values)
                releases.add(connection, plan.app, number, plan.operation, config, artifact)
            services.keep(connection, plan.app, plan.services)
            apps.serve_from(connection, plan.app, plan.operation.id)
            operations.finish(connection, plan.operation, "succeeded")
    except BaseException:
        with suppress(SlipwayError, OSError):  # whoever ends the operation tries again (`hooks.endings`)
            plan.repository.move(wanted, before)
        raise


def commit_config(store: Store, plan: Plan, step: Steps) -> None:
    """Make the plan's config the current one of an app that has no release yet."""
    with step("commit"), store.write() as connection:
        if plan.config.id is None:
            configs.add(connection, store.seal, plan.app, plan.config.values)
        operations.finish(connection, plan.operation, "succeeded")


def branches_after(artifact: Artifact | None, before: Branches) -> Branches:
    """Return where the deploying branches belong once `artifact` runs, None for nothing at all.

    An image that was deployed as it is comes from no commit, so no branch says that it runs; a later push of
    whatever commit is then a change again.
    """
    if artifact is None or artifact.commit is None or artifact.git_ref is None:
        return dict.fromkeys(before)
    return {**before, artifact.git_ref: artifact.commit}
