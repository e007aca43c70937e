"""What Terraform's provider does to an `aptible_app`: it makes up addresses, sends JSON, polls, and reads all back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests

from demo.person import Person
from demo.registry import Registry
from tests.api.conftest import PASSWORD, credentials

SECONDS = 60.0
"""When an operation counts as stuck."""


class Provider:
    """The provider's requests, none of which says what it prefers."""

    def __init__(self, api: str, person: Person) -> None:
        self._api = api
        login = {"expires": 43200, "username": person.name, "password": PASSWORD, "grant_type": "password"}
        answer = requests.post(f"{api}/tokens", json={**login, "scope": "manage"}, timeout=20)
        self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        return requests.request(method, self._api + path, json=body, headers=self._headers, timeout=20)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.ask(method, path, body)
        assert answer.ok, answer.text
        return dict(answer.json())

    def operate(self, path: str, body: dict[str, Any]) -> str:
        """Open an operation and poll it to its end; return its status."""
        operation = self.send("POST", f"{path}/operations", body)
        deadline = time.monotonic() + SECONDS
        while operation["status"] not in ("succeeded", "failed"):
            assert time.monotonic() < deadline, operation
            time.sleep(0.1)
            operation = self.send("GET", f"/operations/{operation['id']}")
        return str(operation["status"])

    def read(self, app_id: int) -> dict[str, Any]:
        """Return what the provider puts into its state."""
        app = self.send("GET", f"/apps/{app_id}")
        configuration, setting = (
            self.send("GET", f"/{name}s/{app['_links'][f'current_{name}']['href'].split('/')[4]}")
            for name in ("configuration", "setting")
        )
        for service in app["_embedded"]["services"]:
            policies = self.send("GET", f"/services/{service['id']}/service_sizing_policies")
            assert policies["_embedded"]["service_sizing_policies"] == []
        return {
            "config": configuration["env"],
            "image": setting["settings"].get("APTIBLE_DOCKER_IMAGE"),
            "credentials": setting["sensitive_settings"],
            "services": {
                each["process_type"]: (
                    each["container_count"],
                    each["container_memory_limit_mb"],
                    each["force_zero_downtime"],
                    each["stop_timeout"],
                )
                for each in app["_embedded"]["services"]
            },
        }


def test_an_app_is_made_changed_and_destroyed_and_a_plan_finds_nothing_to_do(
    client: Callable[..., Any], alice: Person, handle: str, image: str, registry: Registry
) -> None:
    provider = Provider(client(alice).root, alice)
    account = provider.send("GET", "/find/account?handle=alice")
    app = provider.send("POST", f"/accounts/{account['id']}/apps", {"handle": handle})["id"]
    deploy = {
        "type": "deploy",
        "env": {"COLOR": "red", "GONE": "soon"},
        "settings": {"APTIBLE_DOCKER_IMAGE": image},
        "sensitive_settings": credentials(registry),
    }
    assert provider.operate(f"/apps/{app}", deploy) == "succeeded"
    wanted = {
        "config": {"COLOR": "red", "GONE": "soon"},
        "image": image,
        "credentials": credentials(registry),
        "services": {"web": (1, 1024, False, 10), "worker": (1, 1024, False, 10)},
    }
    assert provider.read(app) == wanted

    # A change of config alone; what is no longer in the configuration is sent empty.
    services = provider.send("GET", f"/apps/{app}/services")["_embedded"]["services"]
    web, worker = (each["id"] for each in services)
    settings = {"restart_free_scaling": False, "naive_health_check": False, "stop_timeout": 10}
    changed = provider.send("PUT", f"/services/{web}", {"force_zero_downtime": True, **settings})
    assert changed["force_zero_downtime"] is True
    assert provider.operate(f"/apps/{app}", {"type": "configure", "env": {"COLOR": "blue", "GONE": ""}}) == "succeeded"
    scale = {"type": "scale", "container_count": 0, "container_size": 512, "instance_profile": "m"}
    assert provider.operate(f"/services/{worker}", scale) == "succeeded"
    wanted |= {"config": {"COLOR": "blue"}, "services": {"web": (1, 1024, True, 10), "worker": (0, 512, False, 10)}}
    assert provider.read(app) == wanted

    # What fails changes nothing of what is read back.
    bad = {"type": "deploy", "settings": {"APTIBLE_DOCKER_IMAGE": "127.0.0.1:1/no/such:1"}}
    assert provider.operate(f"/apps/{app}", bad) == "failed"
    assert provider.read(app) == wanted
    assert provider.operate(f"/apps/{app}", {"type": "deprovision"}) == "succeeded"
    assert provider.ask("GET", f"/apps/{app}").status_code == 404
