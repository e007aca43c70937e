"""What the server's administrator excepts from fsck in one repository, in its configuration, as for git's own server.

These are `receive.fsck.<msg-id>` and `receive.fsck.skipList` (git-config(1)).
Histories that are decades old have objects that no Git of today would make, and their commits cannot be made anew. fsck
itself is always on, and what `.gitmodules` may say has no exceptions: `submodules` looks by itself. Only C git knows
them; dulwich's checks, where it is not installed, are coarser and have no levels.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dulwich.config import ConfigFile

from gitserver import git_program
from store.errors import SlipwayError

_SECTION = (b"receive", b"fsck")


class UnreadableConfigError(SlipwayError):
    """The configuration of a repository cannot be read; a push is refused rather than judged by half of it."""


class Fsck(NamedTuple):
    """How the objects of a push are to be checked."""

    options: Sequence[str] = ("--strict",)
    """Of git-index-pack(1), run in the repository, where the path of a list may begin."""
    unknown: Sequence[str] = ()
    """Message ids that this Git does not know, and which are passed over."""
    has_exceptions: bool = False
    """Whether Git alone can tell what passes."""


def read(repository: Path) -> Fsck:
    """Return how the objects of a push to this repository are checked. Raises UnreadableConfigError."""
    try:
        config = ConfigFile.from_path(str(repository / "config"))
    except FileNotFoundError:
        return Fsck()
    except (OSError, ValueError) as error:
        raise UnreadableConfigError(
            "the configuration of the repository cannot be read; whoever runs the server can see why with "
            "git config --list"
        ) from error
    if not config.has_section(_SECTION):
        return Fsck()
    known = _known()
    options, unknown = [], []
    for key, value in config.items(_SECTION):
        name, said = key.decode().lower(), value.decode()
        if name not in known:
            unknown.append(name)
            continue
        options.append(f"{name}={said}")
    return Fsck(["=".join(filter(None, ["--strict", ",".join(options)]))], unknown, has_exceptions=True)


def _known() -> set[str]:
    """Return what the installed Git can be told about."""
    words = ["git", "help", "--config-for-completion"]
    listed = subprocess.run(words, env=git_program.environment(), capture_output=True, text=True, check=False).stdout
    return {word.removeprefix("receive.fsck.") for word in listed.lower().split() if word.startswith("receive.fsck.")}
