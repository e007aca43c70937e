"""From an image and a Procfile to services: which command, and which port."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from releaser.release import Release
from releaser.route import Route
from releaser.services import Image, NothingToRunError, Service, ServiceCommandError, services


def release(procfile: str | None = None, settings: Mapping[str, str] | None = None) -> Release:
    return Release(
        instance="i",
        app_id=7,
        app="shop",
        number=1,
        operation=2,
        image="sha256:0",
        environment={},
        procfile=procfile,
        settings=settings or {},
        route=Route(port=20001),
        git_ref=None,
    )


SERVER = Image(command=("serve",), tcp_ports=(8080,))


def test_without_a_procfile_the_image_runs_its_own_command() -> None:
    assert services(release(), SERVER) == [Service("cmd", None, 8080, own=True)]


def test_an_image_with_an_entrypoint_only_has_something_to_run() -> None:
    assert services(release(), Image(entrypoint=("serve",))) == [Service("cmd", None, None, own=True)]


def test_an_image_that_says_nothing_to_run_is_refused() -> None:
    with pytest.raises(NothingToRunError, match="add CMD to its Dockerfile, or a Procfile"):
        services(release(), Image(tcp_ports=(80,)))


def test_procfile_lines_run_under_the_shell() -> None:
    assert services(release("web: serve --to $HOME\nworker: work"), SERVER) == [
        Service("web", ("/bin/sh", "-c", "serve --to $HOME"), 8080, own=True),
        Service("worker", ("/bin/sh", "-c", "work"), None),
    ]


def test_procfile_lines_are_the_entrypoints_arguments() -> None:
    image = Image(entrypoint=("/entry",), command=("unused",), tcp_ports=(8080,))
    assert services(release("web: serve --name 'my shop'"), image) == [
        Service("web", ("serve", "--name", "my shop"), 8080, own=True)
    ]


def test_an_entrypoint_cannot_be_given_unbalanced_quotes() -> None:
    with pytest.raises(ServiceCommandError, match=r"'web' cannot be split .* mend its quotes"):
        services(release("web: serve 'my shop"), Image(entrypoint=("/entry",)))


def test_the_only_service_is_reached_whatever_its_name() -> None:
    assert services(release("site: serve"), SERVER)[0].port == 8080


def test_of_several_services_none_is_reached_unless_one_is_web() -> None:
    assert [service.port for service in services(release("a: serve\nb: serve"), SERVER)] == [None, None]


def test_the_port_is_the_lexicographically_lowest_exposed_one() -> None:
    answer = {"Config": {"Cmd": ["x"], "ExposedPorts": {"8080/tcp": {}, "443/tcp": {}, "10000/tcp": {}, "1/udp": {}}}}
    assert services(release(settings={"PORT": "99"}), Image.inspected(answer))[0].port == 10000


@pytest.mark.parametrize(
    ("asked", "port"), [("5000", 5000), ("", None), ("http", None), ("0", None), ("65536", None), ("٣", None)]
)
def test_without_an_exposed_port_config_may_give_one(asked: str, port: int | None) -> None:
    assert services(release(settings={"PORT": asked}), Image(command=("x",)))[0].port == port
