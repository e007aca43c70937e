"""Whether all that a new ref leads to is there, so that no ref is ever broken by a push (git's connected.c)."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from dulwich.object_store import DiskObjectStore
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.refs import DiskRefsContainer

from gitserver import git_program
from gitserver.quarantine import Quarantine
from gitserver.small_history import leads_to_held
from gitserver.stored_objects import stored_objects


def disconnected(
    repository: Path, quarantine: Quarantine, tips: Sequence[str], held: Collection[bytes] = frozenset()
) -> set[str]:
    """Return those object ids among `tips` that lead to something in neither the repository nor the quarantine.

    `held` is what refs hold, and so complete; with it, most small pushes are proved without a program or a long walk.
    """
    if not tips:
        return set()
    with stored_objects(repository) as stored:
        if all(leads_to_held(tip.encode(), quarantine.small, held, stored) for tip in tips):
            return set()
    if quarantine.self_contained:
        # What leads nowhere else is whole; only a tip that is not in it, and not here before, may be broken.
        with quarantine.new_packs() as packs:
            tips = [tip for tip in tips if not any(ObjectID(tip.encode()) in pack for pack in packs)]
    if not tips or _connected(repository, quarantine, tips):
        return set()
    return {tip for tip in tips if len(tips) == 1 or not _connected(repository, quarantine, [tip])}


def _connected(repository: Path, quarantine: Quarantine, tips: Sequence[str]) -> bool:
    if not git_program.installed():
        with quarantine.store() as store:
            return _walk(store, DiskRefsContainer(str(repository)), tips)
    return (
        subprocess.run(
            git_program.connectivity(repository),
            env=git_program.environment(quarantine.environment),
            input="".join(f"{tip}\n" for tip in tips).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
    )


def _walk(store: DiskObjectStore, refs: DiskRefsContainer, tips: Iterable[str]) -> bool:
    """Visit everything from `tips` down to what refs hold already, which is complete."""
    seen = _history(store, refs.as_dict().values())
    waiting: list[tuple[ObjectID, type[ShaFile] | None]] = [(ObjectID(tip.encode()), None) for tip in tips]
    while waiting:
        oid, kind = waiting.pop()
        if oid in seen:
            continue
        try:
            found = store[oid]
        except KeyError:
            return False
        if kind is not None and not isinstance(found, kind):
            return False
        seen.add(oid)
        waiting += _links(found)
    return True


def _links(item: ShaFile) -> list[tuple[ObjectID, type[ShaFile] | None]]:
    """Return what an object points to, with the kind that it has to be."""
    if isinstance(item, Commit):
        return [(item.tree, Tree), *((parent, Commit) for parent in item.parents)]
    if isinstance(item, Tag):
        kind, oid = item.object
        return [(oid, kind)]
    if isinstance(item, Tree):
        gitlink, directory = 0o160000, 0o040000
        # A submodule's commit lives in another repository.
        return [(sha, Tree if mode == directory else Blob) for _, mode, sha in item.iteritems() if mode != gitlink]
    return []


def _history(store: DiskObjectStore, tips: Iterable[ObjectID]) -> set[ObjectID]:
    """Return all commits that refs hold."""
    seen: set[ObjectID] = set()
    waiting = list(tips)
    while waiting:
        oid = waiting.pop()
        if oid in seen or oid not in store:
            continue
        seen.add(oid)
        item = store[oid]
        if isinstance(item, Tag):
            waiting.append(item.object[1])
        elif isinstance(item, Commit):
            waiting += item.parents
    return seen
