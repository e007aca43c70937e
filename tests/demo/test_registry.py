"""The private registry is private: without its password there is no image."""

from __future__ import annotations

import docker
import pytest
import requests
from docker.errors import APIError

from demo.registry import PushError, Registry


def test_an_image_is_pulled_with_the_password(engine: str, registry: Registry, private_small: str) -> None:
    account = {"username": registry.username, "password": registry.password.reveal()}
    with docker.APIClient(engine) as client:
        client.pull(private_small, auth_config=account)
        client.remove_image(private_small)


@pytest.mark.parametrize("account", [{"username": "", "password": ""}, {"username": "deploy", "password": "guess"}])
def test_a_stranger_gets_nothing(engine: str, private_small: str, account: dict[str, str]) -> None:
    with docker.APIClient(engine) as client, pytest.raises(APIError, match=r"no basic auth credentials|unauthorized"):
        client.pull(private_small, auth_config=account)


def test_one_registrys_password_is_not_the_others(registry: Registry, other_registry: Registry) -> None:
    url = f"http://{other_registry.host}/v2/"
    own = (other_registry.username, other_registry.password.reveal())
    assert requests.get(url, auth=own, timeout=10).status_code == 200
    foreign = (registry.username, registry.password.reveal())
    assert requests.get(url, auth=foreign, timeout=10).status_code == 401


def test_after_a_push_the_engine_knows_the_image_under_its_own_name_only(
    engine: str, small_image: str, private_small: str
) -> None:
    with docker.APIClient(engine) as client:
        (image,) = client.images(name=small_image)
        assert image["RepoTags"] == [small_image]
        assert not any("private/small" in digest for digest in image["RepoDigests"] or [])


def test_a_push_that_the_registry_refuses_is_told(engine: str, registry: Registry, small_image: str) -> None:
    stranger = Registry(registry.log.parent, engine, username="stranger")
    stranger.host = registry.host
    with pytest.raises(PushError, match=f"{registry.host}/private/other:latest could not be pushed"):
        stranger.push(small_image, "private/other")


def test_the_password_is_in_no_file_of_the_registry(registry: Registry) -> None:
    files = [path for path in registry.log.parent.iterdir() if path.is_file()]
    assert len(files) == 3
    assert not any(registry.password.reveal() in path.read_text() for path in files)
