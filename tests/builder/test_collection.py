"""Images that no release needs are removed; those of releases, and of anybody else, stay."""

from __future__ import annotations

from collections.abc import Callable

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
