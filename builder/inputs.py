"""Everything that an image is made from, as one fingerprint: the same fingerprint, the same image.

The fingerprint stands in the engine's store as a tag beside the image, so that it goes when the image goes. It is made
with the app's own key: it tells nothing about secrets, and no other app's image has it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping

from builder.buildkit.secrets import SecretMounts
from builder.stages import ImageUse
from store.secret import Secret

FORMAT = 1
"""Raised when this program builds something else from the same inputs."""
TAG = "inputs-"
"""Start of a fingerprint's tag."""


def fingerprint(
    *,
    builder: str,
    dockerfile: bytes,
    context: bytes,
    bases: Mapping[ImageUse, str],
    arguments: Mapping[str, str],
    labels: Mapping[str, str],
    extra: Mapping[str, bytes],
    secrets: SecretMounts,
    cache_key: Secret,
) -> str:
    """Return 64 hexadecimal digits.

    `context` is the id of the context's tree, which stands for everything in it, `.dockerignore` included; `bases` are
    digests. Config counts only where the Dockerfile can see it: in `extra` files, and as `secrets` that it asks for.
    """
    inputs = {
        "format": FORMAT,
        "builder": builder,
        "dockerfile": hashlib.sha256(dockerfile).hexdigest(),
        "context": context.decode(),
        "bases": [[use.line, str(use.reference), use.platform, digest] for use, digest in bases.items()],
        "arguments": dict(sorted(arguments.items())),
        "labels": dict(sorted(labels.items())),
        "extra": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(extra.items())},
        "secrets": sorted(secrets.names),
    }
    told = json.dumps(inputs).encode()
    return hmac.digest(cache_key.reveal().encode(), b"inputs\0" + told, "sha256").hex()


def tag_of(fingerprint: str, tag: str) -> str:
    """Return the name of the image that was made from these inputs, in the same repository as `tag`."""
    return f"{tag.rpartition(':')[0]}:{TAG}{fingerprint}"
