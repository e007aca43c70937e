"""What a build or a pull results in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Image:
    """An image in the engine's store, ready to be released."""

    id: str
    """`sha256:…`, the digest of its config (OCI image specification, "ImageID"): what a release runs."""
    reference: str | None
    """`host/repository@sha256:…` of an image that was pulled as it is, None for a build."""
    bases: Mapping[str, str]
    """Each image that a registry was asked for, in full form, and the digest of the manifest that it named."""
    command: tuple[str, ...]
    """CMD; empty if there is none."""
    entrypoint: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    """EXPOSEd ports such as `8000/tcp`, in lexicographic order."""
    procfile: str | None
    """Procfile at the root of the commit, or /.aptible/Procfile of an image that was pulled as it is."""
    aptible_yml: str | None
    """.aptible.yml, likewise."""


def from_inspection(
    inspection: Mapping[str, Any],
    *,
    reference: str | None,
    bases: Mapping[str, str],
    procfile: str | None,
    aptible_yml: str | None,
) -> Image:
    """Put together an Image; `inspection` is the engine's answer to `GET /images/NAME/json`."""
    config = inspection.get("Config") or {}
    return Image(
        id=inspection["Id"],
        reference=reference,
        bases=dict(bases),
        command=tuple(config.get("Cmd") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        exposed_ports=tuple(sorted(config.get("ExposedPorts") or ())),
        procfile=procfile,
        aptible_yml=aptible_yml,
    )
