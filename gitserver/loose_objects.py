"""Writing loose objects (gitrepository-layout(5), "objects/[0-9a-f][0-9a-f]"), each of them whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gitserver.small_pack import GitObject
from store.durable import synchronise

COMPRESSION = 1
"""zlib's level, as with Git's own `core.looseCompression`."""

_RANK = {b"blob": 0, b"tree": 1, b"commit": 2, b"tag": 3}
"""An object is written after what it leads to, so that a crash leaves none whose content is missing."""


def write(folder: Path, objects: Mapping[bytes, GitObject]) -> None:
    """Write `objects` into an objects folder.

    Each is on the disk when it gets its name: Git leaves that to the kernel by default, but here a ref that moves next
    stands for what runs, also after a power cut. All are written before the first is waited for, since a disk takes
    many at once in the time of one.
    """
    drafts: dict[Path, Path] = {}
    try:
        for oid, item in sorted(objects.items(), key=lambda pair: _RANK[pair[1].kind]):
            name = oid.decode("ascii")
            target = folder / name[:2] / name[2:]
            if target.exists():
                # As Git does: `git prune` removes what is old and belongs to no ref, and this will belong to one.
                with suppress(FileNotFoundError):
                    os.utime(target)
                    continue
            drafts[target] = _draft(target, item)
        for draft in drafts.values():
            synchronise(draft)
        for target, draft in drafts.items():
            draft.rename(target)
    except BaseException:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise


def _draft(target: Path, item: GitObject) -> Path:
    """Write an object beside where it belongs, and return the path."""
    data = zlib.compress(b"%s %d\0%s" % (item.kind, len(item.content), item.content), COMPRESSION)
    target.parent.mkdir(exist_ok=True)
    # The name is that of Git's own drafts, which `git prune` knows.
    descriptor, name = tempfile.mkstemp(prefix="tmp_obj_", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, 0o444)
    except BaseException:
        draft.unlink()
        raise
    return draft
