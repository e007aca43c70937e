"""Without a proxy: a container publishes its app's port by itself, and one follows the other."""

from __future__ import annotations

import pytest
import requests

from releaser.health import ExitedError
from releaser.published_ports import PublishedPorts
from releaser.releaser import Releaser
from tests.releaser.conftest import House, until

WORKERS = "web: python3 /app.py\nworker: exec python3 /app.py worker\n"


@pytest.fixture
def bare(house: House) -> House:
    """A house whose proxy is not used."""
    house.proxy.remove()
    house.releaser = Releaser(engine=house.engine, instance=house.instance, proxy=PublishedPorts("127.0.0.1"))
    return house


def answer(house: House) -> str:
    """Return what the app answers, nothing while it is coming up."""
    try:
        return house.answer()
    except requests.ConnectionError:
        return ""


def test_releases_follow_each_other_at_the_published_port_and_a_failed_one_is_taken_back(bare: House) -> None:
    bare.deploy({"ANSWER": "one"}, procfile=WORKERS)
    assert bare.answer() == "one"
    second = bare.deploy({"ANSWER": "two"}, procfile=WORKERS)
    assert bare.answer() == "two"
    assert "web: stopping release 1; nobody answers until the next one" in bare.said
    with pytest.raises(ExitedError):
        bare.deploy({"EXIT": "3"}, procfile=WORKERS)
    until(lambda: answer(bare) == "two")
    assert sorted(bare.running()) == [("web", 2), ("worker", 2)]
    bare.client.containers.get(bare.container("web").id).remove(force=True)
    bare.releaser.mend(second)
    until(lambda: answer(bare) == "two")


def test_the_router_may_change_between_two_starts(bare: House) -> None:
    release = bare.deploy({"ANSWER": "one"})
    proxied = Releaser(engine=bare.engine, instance=bare.instance, proxy=bare.proxy)
    assert proxied.restore([release]) == {}
    assert bare.answer() == "one"
    assert bare.proxy.running
    assert bare.container("cmd").published == ""
    bare.proxy.remove()
    assert bare.releaser.restore([release]) == {}
    until(lambda: answer(bare) == "one")
    assert bare.container("cmd").published == f"127.0.0.1:{bare.port}"
