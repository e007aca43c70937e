"""Registries with TLS: whom the engine trusts is trusted when a registry is asked, and nobody else."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from builder.credentials import PASSWORD
from builder.registry import CredentialsRefusedError, RegistryUnreachableError
from demo.registry import Registry
from tests.builder.conftest import BOTH_BUILDERS, Workbench
from tests.builder.tls_registry import TlsRegistry

Account = Callable[[Registry], dict[str, str]]


@pytest.fixture(scope="module")
def tls_registry(engine: str, world_folder: Path) -> Iterator[TlsRegistry]:
    """On the engine's own bridge: an address of this machine that is not its loopback."""
    if os.geteuid() != 0:
        pytest.skip("/etc/docker/certs.d is root's")
    with docker.APIClient(engine) as client:
        (place,) = client.inspect_network("bridge")["IPAM"]["Config"]
    address = place.get("Gateway") or str(ipaddress.ip_network(place["Subnet"])[1])
    with TlsRegistry(world_folder / "tls-registry", engine, address) as running:
        yield running


@BOTH_BUILDERS
def test_an_authority_of_our_own(
    workbench: Workbench, tls_registry: TlsRegistry, small_image: str, account: Account
) -> None:
    config = account(tls_registry)
    reference = f"{tls_registry.host}/private/{workbench.builder}:1"
    with pytest.raises(RegistryUnreachableError, match="it has no certificate that this server trusts"):
        workbench.build({"Dockerfile": f"FROM {reference}\n"}, config)
    tls_registry.trust()
    try:
        # An image that the engine has under no other name, so that it has to pull it.
        own = workbench.derive(small_image, f"tls:{workbench.builder}", "ENV OWN=1")
        assert tls_registry.push(own, f"private/{workbench.builder}:1") == reference
        workbench.client.remove_image(own)
        image = workbench.build({"Dockerfile": f"FROM {reference}\nRUN echo $OWN > /own\n"}, config)
        assert workbench.run(image, "cat", "/own") == "1\n"
        with pytest.raises(CredentialsRefusedError):
            workbench.build({"Dockerfile": f"FROM {reference}\n"}, config | {PASSWORD: "wrong"})
    finally:
        tls_registry.distrust()
