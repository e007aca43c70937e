"""Images that no release needs are removed; those of releases, and of anybody else, stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder import collection
from demo.registry import Registry
from tests.builder.conftest import BOTH_BUILDERS, Workbench

pytestmark = BOTH_BUILDERS


def test_what_is_kept_and_what_is_others_stays(
    workbench: Workbench, private_small: str, registry: Registry, account: Callable[[Registry], dict[str, str]]
) -> None:
    files = {"Dockerfile": f"FROM {private_small}\nCOPY x /x\n"}
    old, kept = (workbench.build(files | {"x": text}, account(registry)).id for text in ("old", "kept"))
    repository = f"slipway-test/{workbench.name}"
    others = workbench.build(files | {"x": "other"}, account(registry)).id
    workbench.client.tag(others, f"{repository}-of-another-app", "1")
    workbench.tags.append(f"{repository}-of-another-app:1")
    workbench.client.tag(kept, f"{collection.PRIVATE}/{repository}/left-by-a-crash", "0")
    images = collection.unneeded(workbench.engine, repository, {kept})
    assert {image.id for image in images if image.size} == {old, others}
    collection.remove(workbench.engine, images)
    left = {image["Id"]: image["RepoTags"] for image in workbench.client.images()}
    assert old not in left
    assert left[others] == [f"{repository}-of-another-app:1"]
    assert len(left[kept]) == 2, "the operation's name, and that of its inputs"
    assert collection.unneeded(workbench.engine, repository, {kept}) == []


def test_an_image_that_a_container_uses_stays(
    workbench: Workbench, private_small: str, registry: Registry, account: Callable[[Registry], dict[str, str]]
) -> None:
    image = workbench.build({"Dockerfile": f"FROM {private_small}\nCOPY . /app\n"}, account(registry))
    container = workbench.client.create_container(image.id, command=["true"])["Id"]
    try:
        repository = f"slipway-test/{workbench.name}"
        collection.remove(workbench.engine, collection.unneeded(workbench.engine, repository, set()))
        assert workbench.inspect(image.id)["Id"] == image.id
    finally:
        workbench.client.remove_container(container)
        workbench.client.remove_image(image.id, force=True)


def test_what_lost_its_name_is_removed_and_what_others_left_without_one_stays(
    workbench: Workbench, private_small: str, registry: Registry, account: Callable[[Registry], dict[str, str]]
) -> None:
    """A server that is killed, or a cancelled build, may leave layers before anybody could name them."""
    workbench.instance = f"{workbench.builder}-of-this-test"
    client: Any = workbench.client
    (base,) = workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry)).bases.values()
    base_id = workbench.inspect(f"{private_small.rpartition(':')[0]}@{base}")["Id"]
    container = client.create_container(base_id, command="true")["Id"]
    others = client.commit(container, changes=["LABEL of=others", "ENV UNNAMED=1"])["Id"]
    client.remove_container(container)

    def lose_names(image: str) -> None:
        for name in workbench.inspect(image)["RepoTags"]:
            repository, _, tag = name.rpartition(":")
            client.tag(base_id, repository, tag)
            client.remove_image(name)

    steps = f"FROM {private_small}\nRUN echo {workbench.builder} > /first\nRUN echo second > /second\n"
    lost, kept = (workbench.build({"Dockerfile": steps + last}, account(registry)).id for last in ("", "ENV KEPT=1\n"))
    lose_names(lost)
    lose_names(kept)
    used = workbench.build({"Dockerfile": f"{steps}ENV USED=1\n"}, account(registry)).id
    lose_names(used)
    container = client.create_container(used, command="true")["Id"]
    try:
        arguments = (workbench.engine, workbench.instance, {kept})
        lone = {lost} if workbench.builder == "buildkit" else set()  # the classic builder's is below the other two
        assert {each.id for each in collection.unnamed(*arguments)} == lone | {used}
        assert {each.id for each in collection.remove_unnamed(*arguments)} == lone
    finally:
        client.remove_container(container)
    everything = collection.remove_unnamed(workbench.engine, workbench.instance, set())
    assert {each.id for each in everything} >= ({kept, used} if lone else {kept, used, lost})
    left = {image["Id"] for image in client.images(all=True)}
    assert not {lost, kept, used} & left
    assert {others, base_id} <= left
    own = client.images(all=True, filters={"label": f"{collection.LABEL}={workbench.instance}"})
    assert [image for image in own if image["RepoTags"] in (None, ["<none>:<none>"])] == []
    client.remove_image(others)


def test_an_image_that_somebody_pulled_by_its_digest_has_a_name(
    workbench: Workbench, private_small: str, registry: Registry, account: Callable[[Registry], dict[str, str]]
) -> None:
    workbench.instance = f"{workbench.builder}-of-a-published-image"
    client: Any = workbench.client
    built = workbench.build({"Dockerfile": f"FROM {private_small}\nENV PUBLISHED=1\n"}, account(registry)).id
    reference = registry.push(built, f"private/published:{workbench.builder}")
    for name in workbench.inspect(built)["RepoTags"]:
        client.remove_image(name)
    login = {"username": registry.username, "password": registry.password.reveal()}
    client.pull(reference, auth_config=login)
    (digest,) = workbench.inspect(built)["RepoDigests"]
    client.remove_image(reference, noprune=True)
    client.pull(digest, auth_config=login)
    assert workbench.inspect(built)["RepoTags"] == []
    assert collection.remove_unnamed(workbench.engine, workbench.instance, set()) == []
    client.remove_image(digest)


def test_bases_and_cache_of_an_engine_without_other_users(
    workbench: Workbench,
    small_image: str,
    registry: Registry,
    account: Callable[[Registry], dict[str, str]],
) -> None:
    """A base goes when no release was made from it and no container uses it; tagged images stay in any case."""
    own = workbench.derive(small_image, f"own-base:{workbench.builder}", "ENV OWN=1")
    reference = registry.push(own, f"private/own-base:{workbench.builder}")
    workbench.client.remove_image(own)
    image = workbench.build(
        {"Dockerfile": f"FROM {reference}\nRUN head -c 3000000 /dev/urandom > /large\n"}, account(registry)
    )
    (digest,) = image.bases.values()
    base = workbench.inspect(f"{reference.rpartition(':')[0]}@{digest}")["Id"]
    assert workbench.inspect(base)["RepoTags"] == []

    def unneeded(*kept: str) -> set[str]:
        return {each.id for each in collection.unneeded_bases(workbench.engine, set(kept))}

    assert base in unneeded()
    assert workbench.inspect(small_image)["Id"] not in unneeded()
    assert base not in unneeded(digest)
    container = workbench.client.create_container(base, command=["true"])["Id"]
    assert base not in unneeded()
    workbench.client.remove_container(container)

    for name in workbench.inspect(image.id)["RepoTags"]:
        workbench.client.remove_image(name)
    collection.remove(workbench.engine, collection.unneeded_bases(workbench.engine, set()))
    assert base not in workbench.images()
    if workbench.builder == "buildkit":
        beyond = collection.cache_beyond(workbench.engine, 0)
        assert beyond
        assert beyond.size >= 3_000_000
        collection.prune_cache(workbench.engine, 0)
        left = collection.cache_beyond(workbench.engine, 0)
        assert left is None or left.size <= beyond.size - 3_000_000
