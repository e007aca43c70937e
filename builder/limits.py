"""What one build may take of the engine's machine: memory, processors, and how much it may print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from builder.output import NO_SPACE
from store.errors import SlipwayError

CPU_PERIOD = 100_000
"""Microseconds in which a build gets its share of the processors, the kernel's own default (cpu.max, cgroups(7))."""
KILLED = 137
"""Exit status of what SIGKILL ended, 128 + 9: the kernel's way to stop what needs more memory than it may have."""
LONGEST_OUTPUT = 64 << 20
"""Bytes that a build may print. The log keeps less; a program that goes on and on would print until the time is up."""
LAST_WORDS = 8 << 10
"""Bytes at the end of a build's output in which the reason for its failure is looked for."""


class MemoryLimitError(SlipwayError):
    """A build needed more memory than it may have, and was stopped. Nothing was released."""


class OutputLimitError(SlipwayError):
    """A build printed without end, and was stopped. Nothing was released."""


@dataclass(frozen=True)
class Limits:
    """What a build may take; None where there is no limit."""

    memory: int | None = None
    """Bytes, for all processes of the build together. There is no swap beyond them."""
    cpus: float | None = None
    """Processors, 1.5 being one and a half."""

    def quota(self, sharers: int = 1) -> int | None:
        """Return microseconds of processor time in each CPU_PERIOD, for one of so many that share the limit."""
        # The kernel takes no less than a millisecond.
        return None if self.cpus is None else max(1_000, int(self.cpus * CPU_PERIOD / sharers))

    def memory_error(self, where: str) -> MemoryLimitError:
        """Return the error of a build that was stopped at `where`, for example `RUN make`."""
        return MemoryLimitError(
            f"{where} was stopped, since the build needed more than the {size(self.memory or 0)} of memory that it may "
            "have; let it do less at a time (fewer parallel jobs), or ask the server's administrator for more "
            "(SLIPWAY_BUILD_MEMORY)."
        )


def size(count: int) -> str:
    """Return a number of bytes for a sentence."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.4g} {unit}"
    return f"{count} bytes"


class Output:
    """What one build prints, on its way to `say`: counted, and looked at for what it tells about the disk."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._left = LONGEST_OUTPUT
        self._no_space_left: int | None = None

    def __call__(self, text: str) -> None:
        """Say whole lines. Raises OutputLimitError when it has been too much."""
        self._left -= len(text)
        if self._left < 0:
            raise OutputLimitError(
                f"The build was stopped, since it printed more than {LONGEST_OUTPUT >> 20} MiB; look for a program in "
                "it that repeats itself, or send its output to /dev/null."
            )
        if NO_SPACE in text.lower():
            self._no_space_left = self._left
        self._say(text)

    @property
    def no_space(self) -> bool:
        """Whether a program has just said that there is no space left; an earlier one may have done without."""
        return self._no_space_left is not None and self._no_space_left - self._left < LAST_WORDS
