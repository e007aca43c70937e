"""What the engine is asked for, read like a command line."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releaser import container
from releaser.container import Container, VariableError
from releaser.network import Network, NetworkFullError, free_address
from releaser.release import Release
from releaser.route import Route
from releaser.services import Service
from store.secret import Secret

RELEASE = Release(
    instance="main",
    app_id=7,
    app="shop",
    number=3,
    operation=12,
    image="sha256:0",
    environment={"KEY": Secret("value"), "APTIBLE_LAYER": Secret("mine")},
    procfile=None,
    settings={},
    route=Route(host="shop.apps.example"),
    git_ref="c0ffee",
    api="http://127.0.0.1:8422",
)
WEB = Service("web", ("/bin/sh", "-c", "serve"), 8080)
NETWORK = Network("n", ipaddress.IPv4Network("10.1.2.0/29"), ipaddress.IPv4Address("10.1.2.1"))


def test_a_container_is_fenced_in() -> None:
    asked = container.body(RELEASE, WEB, 0, "slipway-main", "10.1.2.3")
    host = asked["HostConfig"]
    assert asked["Image"] == "sha256:0"
    assert asked["Cmd"] == ["/bin/sh", "-c", "serve"]
    assert host["Memory"] == host["MemorySwap"] == 1024 * 1024 * 1024
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert "NET_RAW" in host["CapDrop"]
    assert host["PidsLimit"] > 0
    assert host["Init"] is True
    assert "PortBindings" not in host
    assert "Env" not in asked


def test_the_images_own_command_is_left_to_it() -> None:
    assert "Cmd" not in container.body(RELEASE, Service("cmd", None, 8080), 0, "n", "10.1.2.3")


def test_the_platforms_metadata_stands_over_the_config() -> None:
    revealed = container.revealed(container.environment(RELEASE, WEB, 1))
    assert sorted(revealed) == [
        "APTIBLE_APP_HREF=http://127.0.0.1:8422/apps/7",
        "APTIBLE_CONTAINER_SIZE=1024",
        "APTIBLE_GIT_REF=c0ffee",
        "APTIBLE_LAYER=app",
        "APTIBLE_PROCESS_INDEX=1",
        "APTIBLE_PROCESS_TYPE=web",
        "APTIBLE_RELEASE_HREF=http://127.0.0.1:8422/apps/7/releases/3",
        "APTIBLE_SERVICE_HREF=http://127.0.0.1:8422/apps/7/services/web",
        "KEY=value",
    ]


@pytest.mark.parametrize("variables", [{"KEY": "s3cret\0"}, {"": "s3cret"}, {"A=s3cret": "x"}])
def test_a_variable_that_no_environment_carries_is_refused_without_showing_it(variables: dict[str, str]) -> None:
    with pytest.raises(VariableError) as caught:
        container.revealed({key: Secret(value) for key, value in variables.items()})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("service", [WEB, Service("worker", ("work",), None)])
def test_labels_are_read_back(service: Service) -> None:
    summary = {
        "Id": "abc",
        "Names": [f"/{container.name(RELEASE, service, 1)}"],
        "State": "running",
        "Labels": container.labels(RELEASE, service, 1),
        "NetworkSettings": {"Networks": {"n": {"IPAMConfig": {"IPv4Address": "10.1.2.3"}}}},
    }
    assert Container.listed(summary) == Container(
        "abc", 7, "shop", service.name, 1, 3, 12, "running", "10.1.2.3", service.port
    )


@pytest.mark.parametrize("labels", [{}, container.labels(RELEASE, WEB, 0), {container.OPERATION: "x"}])
def test_labels_that_a_dockerfile_sets_prove_nothing(labels: dict[str, str]) -> None:
    summary = {"Id": "abc", "Names": ["/brave_hopper"], "State": "running", "Labels": labels}
    assert Container.listed(summary) is None


@given(st.sets(st.integers(2, 6).map(lambda last: f"10.1.2.{last}")))
def test_an_address_is_one_that_nobody_has(taken: set[str]) -> None:
    if len(taken) == 5:
        with pytest.raises(NetworkFullError):
            free_address(NETWORK, taken)
        return
    address = free_address(NETWORK, taken)
    assert address not in taken | {"10.1.2.0", "10.1.2.1", "10.1.2.7"}
    assert ipaddress.IPv4Address(address) in NETWORK.subnet
