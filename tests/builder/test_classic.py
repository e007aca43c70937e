"""What only the classic builder has to put up with: its engine looks for layers among those of everybody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from demo.registry import Registry
from tests.builder.conftest import Log, Workbench

Account = Callable[[Registry], dict[str, str]]

NEIGHBOURS = 60
"""Layers of others. The engine reads them all at each step, so some of them vanish while it does."""


@pytest.mark.parametrize("builder", ["classic"])
def test_layers_of_others_that_are_removed_meanwhile_fail_no_build(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    client: Any = workbench.client
    # The layer below which everybody's are: with the same label, as of another app of this installation.
    first = workbench.build({"Dockerfile": f"FROM {private_small}\n"}, account(registry)).id
    neighbours = []
    for number in range(NEIGHBOURS):
        container = client.create_container(first, command="true")["Id"]
        neighbours.append(client.commit(container, changes=[f"LABEL number={number}"])["Id"])
        client.remove_container(container)

    def remove() -> None:
        for each in neighbours:
            client.remove_image(each, noprune=True)

    removing = threading.Thread(target=remove)
    removing.start()
    built, begun_again = 0, 0
    while removing.is_alive():
        log = Log()
        built += 1
        dockerfile = f"FROM {private_small}\nENV A={built}\n"
        workbench.build({"Dockerfile": dockerfile}, account(registry), log=log)
        begun_again += "begins again" in str(log)
    removing.join()
    print(f"{begun_again} of {built} builds began again")
    assert built


@pytest.mark.parametrize("builder", ["classic"])
def test_steps_are_numbered_as_their_author_numbers_them(
    workbench: Workbench, private_small: str, registry: Registry, account: Account
) -> None:
    dockerfile = (
        f"ARG WHAT=1\nFROM {private_small} AS first\nRUN echo {workbench.folder} > /a\nFROM first AS second\n"
        f"FROM {private_small}\nCOPY --from=second /a /a\nRUN echo done"
    )
    log = Log()
    image = workbench.build({"Dockerfile": dockerfile}, account(registry), log=log)
    steps = [line for line in str(log).splitlines() if line.startswith("Step ")]
    assert [step.partition(" : ")[0] for step in steps] == [f"Step {number}/7" for number in range(1, 8)]
    assert [step.partition(" : ")[2].split()[0] for step in steps] == [
        "ARG",
        "FROM",
        "RUN",
        "FROM",
        "FROM",
        "COPY",
        "RUN",
    ]
    assert "slipway.image-of" not in str(log)
    assert workbench.inspect(image.id)["Config"]["Labels"] == {"slipway.image-of": workbench.instance}
