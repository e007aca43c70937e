"""What is kept on the engine, and when the rest goes: after a deploy, each day, and when the disk gets full."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from hooks import collection
from hooks.collection import Collector, repository_of
from hooks.keeping import Policy
from hooks.queue import Job, Queue
from store import apps, configs, operations, releases, users
from store.apps import App
from store.data_folder import DataFolder
from store.database import Store
from store.releases import Artifact


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.create(DataFolder(tmp_path / "data"))
    yield made
    made.close()


@pytest.fixture
def app(store: Store) -> App:
    with store.write() as connection:
        owner = users.add(connection, "olga")
        return apps.create(
            connection, owner, "shop", environment=None, ports=range(20000, 20002), usable=lambda _: True
        )


@pytest.fixture
def tags(engine: str, store: Store, app: App, small_image: str) -> Iterator[Callable[[], set[str]]]:
    """Five images of the app's, made of the small one and each of its own; returns which of their names there are."""
    repository = repository_of(store, app)
    with closing(docker.APIClient(engine)) as client:
        for number in range(1, 6):
            container = client.create_container(small_image, command=[str(number)])["Id"]
            client.commit(container, repository, str(number), changes=f"ENV NUMBER={number}")
            client.remove_container(container)

        def left() -> set[str]:
            images = client.images(repository)
            return {name.rpartition(":")[2] for image in images for name in image["RepoTags"] or ()}

        assert left() == set("12345")
        yield left
        for tag in left():
            client.remove_image(f"{repository}:{tag}")


def release(store: Store, engine: str, app: App, *numbers: int) -> None:
    """Record releases of these images, one after the other."""
    with closing(docker.APIClient(engine)) as client, store.write() as connection:
        for number in numbers:
            image = client.inspect_image(f"{repository_of(store, app)}:{number}")["Id"]
            operation = operations.add(connection, store.seal, app, None, "deploy", b"{}")
            config = configs.current(connection, store.seal, app)
            if config.id is None:
                config = configs.add(connection, store.seal, app, {})
            releases.add(connection, app, number, operation, config, Artifact(image=image))


def test_the_newest_releases_stay_and_the_others_images_go_after_an_operation(
    store: Store, engine: str, app: App, tags: Callable[[], set[str]]
) -> None:
    release(store, engine, app, 1, 2, 3)
    collector = Collector(store, Queue(1), engine, Policy(keep=2))
    assert {name.rpartition(":")[2] for image in collector.collect(dry_run=True) for name in image.names} == set("145")
    assert tags() == set("12345"), "a dry run removes nothing"
    with closing(docker.APIClient(engine)) as client:
        repository = repository_of(store, app)
        client.tag(f"{repository}:1", repository, "layers-1")
    collector.after(app.id)
    assert tags() == {"2", "3", "layers-1"}, "what the next build is made from stays as well"
    collector.collect()
    assert tags() == set("23")


def test_an_app_that_something_runs_for_is_passed_over(
    store: Store, engine: str, app: App, tags: Callable[[], set[str]]
) -> None:
    queue, entered, over = Queue(1), threading.Event(), threading.Event()

    def work(_: threading.Event) -> None:
        entered.set()
        over.wait()

    queue.add(Job(1, app.id, work))
    assert entered.wait(10)
    collector = Collector(store, queue, engine, Policy(dedicated=True))
    try:
        assert collector.collect() == []
    finally:
        over.set()
    assert queue.drain(10)
    assert tags() == set("12345")


def test_everything_goes_early_when_the_disk_is_too_full(
    store: Store, engine: str, app: App, tags: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    release(store, engine, app, 1)
    monkeypatch.setattr(collection, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(collection, "FULL_SECONDS", 0.0)
    Collector(store, Queue(1), engine, Policy(full=101)).look()
    assert tags() == set("12345"), "there is room, and the day is not over"
    Collector(store, Queue(1), engine, Policy(full=0)).look()
    assert tags() == {"1"}


def test_what_an_app_left_that_went_while_the_engine_was_down_is_found_within_a_minute(
    store: Store, engine: str, app: App, tags: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an app has too much that still is there waits for its day."""
    release(store, engine, app, 1)
    monkeypatch.setattr(collection, "LOOK_SECONDS", 0.0)
    collector = Collector(store, Queue(1), engine, Policy(full=101))
    collector.look()
    assert tags() == set("12345")
    with store.write() as connection:
        apps.delete(connection, app)
    collector.look()
    assert tags() == set()


def test_a_dedicated_engine_loses_bases_that_no_release_was_made_from(
    store: Store, engine: str, app: App, private_small: str, small_image: str
) -> None:
    """What has a tag is somebody's own, there too."""
    queue = Queue(1)
    shared, dedicated = (Collector(store, queue, engine, Policy(dedicated=own)) for own in (False, True))
    with queue.quiet() as free:
        assert free
    assert not [image for image in shared.collect(dry_run=True) if image.id == "build cache"]
    ids = {image.id for image in dedicated.collect(dry_run=True)}
    with closing(docker.APIClient(engine)) as client:
        kept = {image["Id"] for image in client.images() if image["RepoTags"] and small_image in image["RepoTags"]}
    assert kept
    assert not ids & kept
