"""What an operation starts from may not be what it was when somebody asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hooks import plan
from hooks.log import OperationLog
from hooks.plan import NoSuchServiceError
from hooks.repository import BareRepository
from hooks.request import Request
from store import apps, configs, operations, releases, users
from store.apps import App
from store.data_folder import DataFolder
from store.database import Store
from store.operations import Operation
from store.releases import Artifact
from store.reserve import Reserve


def open_operation(store: Store, app: App, request: Request) -> Operation:
    with store.write() as connection:
        return operations.add(connection, store.seal, app, None, request.type, request.dump())


def release(store: Store, app: App, number: int, procfile: str) -> None:
    operation = open_operation(store, app, Request("deploy"))
    with store.write() as connection:
        config = configs.add(connection, store.seal, app, {})
        releases.add(connection, app, number, operation, config, Artifact(image="sha256:1", procfile=procfile))
        operations.finish(connection, operation, "succeeded")


def test_a_service_that_went_while_its_scaling_waited_is_not_scaled(tmp_path: Path) -> None:
    store = Store.create(DataFolder(tmp_path / "data"))
    with store.write() as connection:
        bob = users.add(connection, "bob")
        app = apps.create(connection, bob, "shop", environment=None, ports=None, usable=lambda _: True)
    repository = BareRepository.create(tmp_path / "shop.git")
    log = OperationLog(tmp_path / "log", Reserve(tmp_path / "reserve"))
    release(store, app, 1, "web: a\nworker: b\n")
    scale = open_operation(store, app, Request("scale", service="worker", settings={"container_count": 3}))
    made = plan.make(store, repository, scale, log)
    assert made.services["worker"].container_count == 3
    release(store, app, 2, "web: a\nclock: c\n")
    with pytest.raises(NoSuchServiceError, match="shop has no service 'worker'; it has web, clock"):
        plan.make(store, repository, scale, log)
    log.close()
    store.close()
