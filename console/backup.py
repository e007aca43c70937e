"""`slipway backup` and `slipway restore`: one archive of everything that cannot be made again.

The archive is taken while the server serves. Records come first, as one moment of the database; then, per repository,
refs before objects. Objects are only ever added, so whatever a copied ref leads to is in the archive. Branches may have
moved on since the records' moment; a restore puts them back to where the records say.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from hooks.recovery import agree
from hooks.repository import BareRepository
from store import apps, operations
from store.data_folder import DataFolder
from store.database import Store
from store.durable import synchronise
from store.errors import SlipwayError, UsageError
from store.tables import now

FORMAT = 1
"""Version of the archive's layout; a newer one is refused by an older program."""

MANIFEST = "slipway-backup.json"

LISTINGS = 5
"""How often a folder of packs is listed anew because one of them was replaced while it was copied (git-gc(1))."""


ROTATIONS = 5
"""How often the records are copied anew because the secret key was replaced meanwhile."""


class BackupError(SlipwayError):
    """A backup cannot be taken, or a file is none."""


def back_up(data: DataFolder, archive: Path) -> int:
    """Write an archive of a data folder and return its size in bytes. The file appears when it is complete.

    Raises BackupError if it cannot be written, DataFolderError for a folder that is none.
    """
    data.require()
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{archive.name}.", dir=archive.parent)  # mode 0600: it holds keys
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
                    _write(data, tar)
                file.flush()
                os.fsync(file.fileno())
            size = partial.stat().st_size
            partial.rename(archive)
            synchronise(archive.parent)
            return size
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise BackupError(f"the backup {archive} cannot be written: {error.strerror}") from error


def _write(data: DataFolder, tar: tarfile.TarFile) -> None:
    _add_text(tar, MANIFEST, json.dumps({"format": FORMAT, "created_at": now().isoformat()}))
    with tempfile.TemporaryDirectory(dir=data.root) as folder:
        snapshot = Path(folder) / "snapshot.db"
        keys = _snapshot(data, snapshot)
        tar.add(snapshot, data.database.name)
    for name, key in keys.items():
        _add_bytes(tar, name, key)
    if data.host_key.exists():
        tar.add(data.host_key, data.host_key.name)
    for log in sorted(data.logs.glob("*.log")):
        tar.add(log, f"logs/{log.name}")
    for repository in sorted(data.repositories.glob("*.git")):
        for path in _files(repository):
            # It may be gone: a lock, a loose ref that was packed, a loose object that is in a pack by now.
            if path.exists():
                tar.add(path, f"repositories/{path.relative_to(data.repositories)}", recursive=False)
        _add_packs(repository, tar, f"repositories/{repository.name}/objects/pack")


def _snapshot(data: DataFolder, snapshot: Path) -> dict[str, bytes]:
    """Copy the records as they are at one moment, and return the key files that belong to them, by name."""
    for _ in range(ROTATIONS):
        keys = _keys(data)
        snapshot.unlink(missing_ok=True)
        with closing(sqlite3.connect(data.database)) as source, closing(sqlite3.connect(snapshot)) as target:
            source.backup(target)  # one moment, whatever is written meanwhile (sqlite.org/backup.html)
        if keys == _keys(data):
            return keys
    raise BackupError("the secret key is replaced all the time; take the backup in a quieter moment")


def _keys(data: DataFolder) -> dict[str, bytes]:
    keys = {}
    for path in (data.config_key, data.next_config_key):
        with suppress(FileNotFoundError):
            keys[path.name] = path.read_bytes()
    return keys


def _files(repository: Path) -> Iterator[Path]:
    """Yield what to copy, in an order that leaves no ref without its objects: loose refs, packed refs, loose objects.

    A ref may move from a file of its own into packed-refs meanwhile, and an object from one of its own into a pack.
    """
    yield repository
    yield from sorted((repository / "refs").rglob("*"))
    yield from (path for path in sorted(repository.iterdir()) if path.is_file())
    for path in sorted((repository / "objects").rglob("*")):
        if "pack" not in path.relative_to(repository).parts and not path.name.startswith("tmp_"):
            yield path


def _add_packs(repository: Path, tar: tarfile.TarFile, name: str) -> None:
    copied: set[str] = set()
    for _ in range(LISTINGS):
        try:
            # An index follows its pack, here as in Git, so that no reader finds one without the other.
            for path in sorted(
                (repository / "objects" / "pack").glob("pack-*"), key=lambda path: path.suffix == ".idx"
            ):
                if path.name not in copied:
                    tar.add(path, f"{name}/{path.name}")
                    copied.add(path.name)
        except FileNotFoundError:
            continue
        return
    raise BackupError(f"the packs of {repository} are replaced all the time; take the backup in a quieter moment")


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    _add_bytes(tar, name, text.encode())


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o600
    tar.addfile(info, io.BytesIO(content))


def restore(archive: Path, data: DataFolder) -> list[str]:
    """Make a data folder out of an archive and return its apps. The folder appears when it is complete.

    Raises BackupError for a file that is no backup, UsageError for a folder that is in use.
    """
    if data.root.exists() and any(data.root.iterdir()):
        raise UsageError(f"{data.root} is not empty; restore into a new folder")
    data.root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{data.root.name}.", dir=data.root.parent))
    try:
        _extract(archive, partial)
        restored = replace(data, root=partial)
        restored.create()
        handles = _agree(restored)
        if data.root.exists():
            data.root.rmdir()
        partial.rename(data.root)
        return handles
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            manifest = tar.extractfile(MANIFEST)
            found = json.loads(manifest.read())["format"] if manifest else None
            if found != FORMAT:
                raise BackupError(f"{archive} was made by a newer version of slipway; upgrade this one first")
            tar.extractall(folder, filter="data")
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, ValueError) as error:
        raise BackupError(f"{archive} is not a backup of slipway, or is damaged: {error}") from error
    (folder / MANIFEST).unlink()
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _agree(data: DataFolder) -> list[str]:
    """Make branches and hidden refs agree with the records; return the apps' handles."""
    store = Store.open(data)
    try:
        with store.read() as connection:
            unfinished = {operation.id for operation in operations.unfinished(connection)}
            for app in apps.everywhere(connection):
                repository = BareRepository.create(data.repositories / f"{app.id}.git")
                agree(store, app, repository, unfinished)
            _forget_what_came_later(data, connection)
            return [app.handle for app in apps.everywhere(connection)]
    finally:
        store.close()


def _forget_what_came_later(data: DataFolder, connection: Connection) -> None:
    """Remove repositories and logs that the records do not know: they were made while the archive was written.

    The next app, and the next operation, get their numbers, and must not find what was somebody else's.
    """
    known = {f"{app.id}.git" for app in apps.everywhere(connection)}
    for repository in data.repositories.iterdir():
        if repository.name not in known:
            shutil.rmtree(repository)
    newest = operations.newest(connection)
    for log in data.logs.glob("*.log"):
        if int(log.stem) > newest:
            log.unlink()
