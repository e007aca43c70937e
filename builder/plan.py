"""What every builder of this room is given, and what it answers: the classic one and BuildKit by the same words.

By the time that a builder is called, everything has been decided: which images, by which content, what the engine will
read. A builder only drives the engine and tells what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from builder.bases import Base
from builder.context import Context
from builder.dockerfile import Dockerfile, Instruction
from builder.engine import IsolatedClient
from builder.output import one_line
from builder.stages import ImageUse, Stages
from store.errors import SlipwayError
from store.secret import Secret

LONGEST_QUOTE = 80
"""Characters of an instruction that an error quotes."""


class BuildFailedError(SlipwayError):
    """An instruction of the Dockerfile failed; nothing was released."""


class StepFailedError(BuildFailedError):
    """A program of the Dockerfile ended with an exit status other than 0."""

    def __init__(self, where: str, status: int) -> None:
        """Say so; `where` is the instruction with its line."""
        super().__init__(f"{where} ended with exit status {status}.")
        self.where = where
        self.status = status


@dataclass(frozen=True)
class Plan:
    """One build, ready to be run."""

    dockerfile: Dockerfile
    """As it was read; errors name its lines."""
    stages: Stages
    bases: Mapping[ImageUse, Base]
    """The image behind every place where the Dockerfile takes from outside."""
    context: Context
    arguments: Mapping[str, str]
    """Build arguments. They end up in image history, so nothing secret is among them."""
    config: Mapping[str, Secret]
    """The app's config without registry credentials: what RUN --mount=type=secret may ask for."""
    cache_key: Secret
    """The app's own; what a build may keep or learn through caches is kept apart by it."""
    tag: str
    labels: Mapping[str, str]
    rebuild: bool = False
    """Whether every step runs again, cached or not."""


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


def quoted(instruction: Instruction) -> str:
    """Return an instruction as an error quotes it."""
    text = one_line(instruction.text)
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"
