"""Nothing is built twice: what an image is made from decides whether there is a build at all."""

from __future__ import annotations

from collections.abc import Callable

from builder.options import Choice
from builder.source import Source
from demo.registry import Registry
from store.secret import Secret
from tests.builder.conftest import BOTH_BUILDERS, Log, Workbench

pytestmark = BOTH_BUILDERS

Account = Callable[[Registry], dict[str, str]]

TIME = "RUN date +%s%N > /time\n"
"""A step whose outcome is never the same."""


def built(log: Log) -> bool:
    return "used again without a build" not in str(log)


def test_the_same_tree_in_another_commit_is_the_same_image(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    files = {"Dockerfile": f"FROM {private_small}\n{TIME}", "Procfile": "web: true\n"}
    first = workbench.build(files, account(registry))
    log = Log()
    second = workbench.build(files, account(registry) | {"UNSEEN": "by the Dockerfile"}, log=log)
    assert not built(log)
    assert (second.id, second.procfile, second.bases) == (first.id, first.procfile, first.bases)
    assert workbench.inspect(workbench.tags[-1])["Id"] == first.id, "it has the operation's name too"


def test_rebuild_builds_regardless_and_its_image_is_the_one_from_then_on(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    files = {"Dockerfile": f"FROM {private_small}\n{TIME}"}
    first = workbench.build(files, account(registry))
    again = workbench.build(files, account(registry), rebuild=True)
    assert again.id != first.id
    assert workbench.build(files, account(registry)).id == again.id


def test_whatever_the_image_is_made_from_makes_another(
    workbench: Workbench, registry: Registry, small_image: str, account: Account
) -> None:
    base = registry.push(small_image, "moving/base:1")
    files = {"Dockerfile": f"FROM {base}\nCOPY x /x\n", "x": "one"}
    log = Log()
    ids = [workbench.build(files, account(registry), log=log).id]
    ids.append(workbench.build(files | {"x": "two"}, account(registry), log=log).id)
    # Another image under the same name.
    workbench.derive(small_image, "moved:1", "ENV MOVED=yes")
    workbench.client.tag("slipway-test/moved:1", f"{registry.host}/moving/base", "1")
    registry.push("slipway-test/moved:1", "moving/base:1")
    ids.append(workbench.build(files, account(registry), log=log).id)
    assert built(log)
    assert len(set(ids)) == 3


def test_config_counts_where_the_dockerfile_sees_it(
    workbench: Workbench, builder: Choice, private_small: str, registry: Registry, account: Account
) -> None:
    seeing = {
        "classic": "COPY .aptible.env /tmp/env\n",
        "buildkit": "RUN --mount=type=secret,id=TOKEN true\n",
    }[builder]
    files = {"Dockerfile": f"FROM {private_small}\n{seeing}{TIME}"}
    ids = []
    for token in ("one", "two", "one"):
        ids.append(workbench.build(files, account(registry) | {"TOKEN": token}).id)
    assert ids[0] == ids[2]
    assert ids[0] != ids[1]


def test_a_commit_counts_where_the_dockerfile_declares_it(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    files = {"Dockerfile": f"FROM {private_small}\nARG GIT_COMMIT\nRUN echo $GIT_COMMIT > /commit\n"}
    workbench.build(files, account(registry))
    source: Source = workbench.commit(files)
    image = workbench.build(source, account(registry))
    assert workbench.run(image, "cat", "/commit") == f"{source.commit}\n"


def test_an_app_gets_its_own_images_only_and_is_asked_for_its_credentials_each_time(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    files = {"Dockerfile": f"FROM {private_small}\n{TIME}"}
    source = workbench.commit(files)
    workbench.build(source, account(registry))
    log = Log()
    workbench.cache_key = Secret("of another app")
    workbench.build(source, account(registry), log=log)
    assert built(log)
    workbench.cache_key = Secret("of the only app")
    try:
        workbench.build(source)
    except Exception as error:
        assert "without credentials" in str(error)
    else:
        raise AssertionError("an app without credentials got its image again")
