"""The OpenAPI description, and whether the server does what it says, whatever it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from demo.person import Person
from demo.server import Server
from tests.api.public_client import PublicClient

Client = Callable[..., PublicClient]

EXAMPLES = 4
"""Requests per operation: every one of some forty is tried, in about ten seconds."""

REQUIRED: dict[str, set[str]] = {
    "app": {"id", "handle", "git_repo", "created_at", "updated_at", "status", "deployment_method"},
    "service": {
        *("id", "handle", "docker_repo", "docker_ref", "process_type", "command", "container_count", "created_at"),
        *("updated_at", "container_memory_limit_mb", "instance_class", "force_zero_downtime", "naive_health_check"),
        *("stop_timeout", "restart_free_scaling"),
    },
    "operation": {
        *("id", "type", "status", "cancelled", "aborted", "git_ref", "docker_ref", "env", "container_size"),
        *("container_count", "disk_size", "command", "handle", "created_at", "updated_at", "certificate"),
        *("private_key", "user_name", "user_email", "destination_region", "interactive", "instance_profile"),
        *("mount_point", "daily", "monthly", "yearly", "pitr_days", "make_copy", "keep_final"),
    },
    "account": {
        *("id", "type", "name", "handle", "onboarding_status", "number", "activated", "syslog_host", "syslog_port"),
        *("bastion_host", "bastion_port", "ssh_portal_port", "container_count", "domain_count", "total_disk_size"),
        *("total_app_count", "app_container_count", "database_container_count", "total_database_count"),
        *("created_at", "updated_at", "sweetness_stack", "gentlemanjerry_endpoint", "gentlemanjerry_certificate"),
        *("gentlemanjerry_docker_name", "gentlemanjerry_instance_id", "sweetness_stack_version", "ca_body"),
    },
    "stack": {
        *("id", "name", "version", "region", "default", "public", "created_at", "updated_at", "ssh_portal_host"),
        *("ssh_host_dsa_public_key", "ssh_host_rsa_public_key", "ssh_host_ecdsa_public_key", "ssh_portal_port"),
        *("outbound_ip_addresses", "memory_limits", "cpu_limits", "intrusion_detection", "account_id", "vpc_id"),
        *("expose_intrusion_detection_reports", "internal_domain", "default_domain", "brickwall_enabled"),
    },
    "vhost": {
        *("id", "acme", "acme_dns_challenge_host", "acme_status", "application_load_balancer_arn", "container_port"),
        *("container_ports", "container_exposed_ports", "default", "docker_name", "elastic_load_balancer_name"),
        *("external_host", "external_http_port", "external_https_port", "host_mapped_ports", "internal", "platform"),
        *("internal_health_port", "internal_host", "internal_http_port", "internal_https_port", "ip_whitelist"),
        *("security_group_id", "status", "type", "user_domain", "virtual_domain", "created_at", "updated_at"),
        *("acme_configuration", "shared", "shared_fingerprint", "load_balancing_algorithm_type"),
    },
    "image": {
        *("id", "git_repo", "git_ref", "docker_repo", "docker_ref", "dualstack_hint", "platform", "release", "scan"),
        *("exposed_ports", "created_at", "updated_at"),
    },
    "configuration": {"id", "env"},
    "setting": {"id", "settings", "sensitive_settings"},
}
"""What a client that Terraform's provider is built on refuses to do without."""


def test_resources_have_every_key_that_generated_clients_require(client: Client, alice: Person, running: str) -> None:
    api = client(alice)
    app = api.app(running)
    account = api.follow(app, "account")
    found = {
        "app": app,
        "service": app["_embedded"]["services"][0],
        "operation": app["_embedded"]["last_operation"],
        "account": account,
        "stack": api.follow(account, "stack"),
        "vhost": api.everything(app["_links"]["vhosts"]["href"])[0],
        "configuration": api.follow(app, "current_configuration"),
        "setting": api.follow(app, "current_setting"),
    }
    assert REQUIRED["image"] <= set(app["_embedded"]["current_image"])
    for kind, resource in found.items():
        assert resource["_type"] == kind
        assert REQUIRED[kind] <= set(resource), REQUIRED[kind] - set(resource)
        assert resource["_links"]["self"]["href"].startswith(api.root)
        # Clients take an id from the fifth part of a link.
        assert len(resource["_links"]["self"]["href"].split("/")) == 5


def test_whatever_is_sent_the_server_does_what_it_says(
    client: Client, newcomer: Callable[[], Person], slipway: Server
) -> None:
    api = client(newcomer())
    description = requests.get(f"http://{slipway.api}/openapi.json", timeout=20).json()
    schema: Any = schemathesis.openapi.from_dict(description)
    checks: Any = [not_a_server_error, content_type_conformance, response_schema_conformance]
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def attempt(case: Any) -> None:
            answer = case.call(
                base_url=f"http://{slipway.api}", headers={"Authorization": f"Bearer {api.token}"}, timeout=20
            )
            case.validate_response(answer, checks=checks)

        if operation.method == "delete":
            continue  # it would log us out
        attempt()
        tried.add((operation.method, operation.path))
    assert len(tried) > 35
