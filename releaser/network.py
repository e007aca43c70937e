"""The one bridge network of an instance, and the addresses on it, as pure functions.

Containers on it reach the outside, and the host reaches them, but they do not reach each other
(`com.docker.network.bridge.enable_icc`): apps of different tenants share the bridge.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from releaser.container import INSTANCE
from store.errors import SlipwayError

DRIVER = "bridge"
OPTIONS = {"com.docker.network.bridge.enable_icc": "false"}


class NetworkFullError(SlipwayError):
    """Every address of the instance's network is taken."""


@dataclass(frozen=True)
class Network:
    """The instance's network as the engine made it."""

    name: str
    subnet: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address

    @classmethod
    def inspected(cls, answer: Mapping[str, Any]) -> Network:
        """Read the engine's answer to "inspect a network" (Docker Engine API, NetworkInspect)."""
        pool = answer["IPAM"]["Config"][0]
        subnet = ipaddress.IPv4Network(pool["Subnet"])
        gateway = ipaddress.IPv4Address(pool["Gateway"].partition("/")[0]) if pool.get("Gateway") else subnet[1]
        return cls(answer["Name"], subnet, gateway)


def name(instance: str) -> str:
    """Return the name of an instance's network."""
    return f"slipway-{instance}"


def labels(instance: str) -> dict[str, str]:
    """Return the label by which the instance finds its network again."""
    return {INSTANCE: instance}


def free_address(network: Network, taken: Collection[str]) -> str:
    """Return an address that nobody has, chosen by chance so that one just given back is seldom met again.

    Raises NetworkFullError.
    """
    first, last = int(network.subnet.network_address) + 1, int(network.subnet.broadcast_address) - 1
    count = last - first + 1
    start = random.SystemRandom().randrange(count)
    for step in range(count):
        address = ipaddress.IPv4Address(first + (start + step) % count)
        if address != network.gateway and str(address) not in taken:
            return str(address)
    raise NetworkFullError(f"every address of the network {network.name} is taken; remove apps that are not needed")
