"""What every builder of this room is given, and what it answers: the classic one now, BuildKit by the same words.

By the time that a builder is called, everything has been decided: which images, by which content, what the engine will
read. A builder only drives the engine and tells what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from builder.dockerfile import Dockerfile
from builder.engine import IsolatedClient
from store.errors import SlipwayError


class BuildFailedError(SlipwayError):
    """An instruction of the Dockerfile failed; nothing was released."""


@dataclass(frozen=True)
class Plan:
    """One build, ready to be run."""

    dockerfile: Dockerfile
    """As it was read; errors name its lines."""
    context: Iterator[bytes]
    """A tar stream, `builder.context.DOCKERFILE` in it with every image from outside replaced by its id."""
    shown_as: Mapping[str, str]
    """For people: what the Dockerfile calls the image of each id."""
    arguments: Mapping[str, str]
    """Build arguments. They end up in image history, so nothing secret is among them."""
    tag: str
    labels: Mapping[str, str]


class Builder(Protocol):
    """One run of a builder on one engine."""

    def check(self, file: Dockerfile) -> None:
        """Refuse a Dockerfile that this builder cannot build. Raises DockerfileError."""

    def build(self, client: IsolatedClient, plan: Plan, say: Callable[[str], None]) -> str:
        """Build and tag an image, say the builder's output as it comes, and return the image's id.

        Raises BuildFailedError, or whatever ended the client's session.
        """

    def discard(self, client: IsolatedClient) -> None:
        """Remove what an interrupted `build` left in the engine; `client` is a new one. Raises nothing."""
