"""Keeping a repository fast while pushes come in: `git gc --auto`, out of the pusher's way (git-gc(1)).

Every small push leaves a few loose objects, every large one a pack, and whoever looks for an object asks each pack in
turn. Git's own receive-pack starts the same command after a push and lets the pusher wait until it has gone to the
background.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import structlog

from gitserver import git_program

SAMPLED_OBJECTS = 27
"""More loose objects than that in one folder of 256 make it worthwhile: 6,700 in all (git-config(1), `gc.auto`)."""

PACKS = 50
"""So many packs do, too (git-config(1), `gc.autoPackLimit`)."""

SAMPLE = "17"
"""The folder that Git counts for all 256: ids are evenly spread (gc.c, too_many_loose_objects)."""

LOWEST_PRIORITY = 19
"""As nice(1) counts."""

PAUSE_SECONDS = 3600.0
"""Pause before a repository is looked after again: loose objects that no ref leads to stay for two weeks."""

MAX_SAID_BYTES = 500
"""How much of what Git says about it goes into the log."""

log = structlog.get_logger()

_one_at_a_time = threading.Lock()
_last: dict[Path, float] = {}
"""When each repository was last looked after, on the monotonic clock; by this process, which is close enough."""


def maintain(repository: Path) -> None:
    """Begin to tidy a bare repository up if there is much lying around; returns at once.

    One repository at a time, so that many busy ones do not keep every core from the pushes; the next push asks again.
    """
    now = time.monotonic()
    if not _needs_it(repository / "objects") or not git_program.installed():
        return
    if now - _last.get(repository, -PAUSE_SECONDS) >= PAUSE_SECONDS and _one_at_a_time.acquire(blocking=False):
        _last[repository] = now
        threading.Thread(target=_collect, args=(repository,), name="git-gc", daemon=True).start()


def _needs_it(objects: Path) -> bool:
    """Tell whether Git would find something to do; a look at two folders, for it happens at every push."""
    return _count(objects / SAMPLE) > SAMPLED_OBJECTS or _count(objects / "pack", ".pack") > PACKS


def _count(folder: Path, suffix: str = "") -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name.endswith(suffix) for entry in entries)
    except FileNotFoundError:
        return 0


def _collect(repository: Path) -> None:
    try:
        with subprocess.Popen(
            git_program.gc(repository),
            env=git_program.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
            _, said = process.communicate()
        tell = log.info if process.returncode == 0 else log.warning
        tell("maintenance.done", repository=repository.name, said=said[-MAX_SAID_BYTES:].decode(errors="replace"))
    finally:
        _one_at_a_time.release()
