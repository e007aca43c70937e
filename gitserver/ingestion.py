"""A pack from the wire becomes checked objects in a quarantine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

from dulwich.objects import ShaFile, Tree
from dulwich.protocol import ReceivableProtocol

from gitserver import fsck_exceptions, git_program, small_pack
from gitserver.delta_chains import MAX_ENTRIES, DeltaChains
from gitserver.fsck_exceptions import UnreadableConfigError
from gitserver.limits import PushLimitError, PushLimits
from gitserver.pack_indexing import PackIndexing
from gitserver.pack_stream import PackStream
from gitserver.plain_objects import all_plain
from gitserver.quarantine import Quarantine
from gitserver.small_pack import COUNT, DamagedPackError, GitObject
from gitserver.stored_objects import stored_objects
from gitserver.streams import ClientStreams
from gitserver.submodules import UnsafeSubmoduleError, check_entry, check_versions
from hooks.engine_room import Repository
from store.errors import SlipwayError

HEADER_BYTES = 12
"""Signature, version and number of objects (gitformat-pack(5))."""

CHECKSUM_BYTES = 20
"""The SHA-1 at the end of a pack."""

DRAFT = "tmp_pack_incoming"
"""In the quarantine, where there is no C git: the pack while it is coming."""

HELD_SHARE = 6
"""One object that is held as a whole may take so small a part of the memory for a push: others wait for it, and while
it is put together it is there several times."""

_NUMBERS = {kind: number for number, kind in small_pack.KINDS.items()}


class UnpackError(SlipwayError):
    """A pack was not taken: it is damaged, or an object of it is. Nothing of it was kept."""


def ingest(
    streams: ClientStreams,
    protocol: ReceivableProtocol,
    repository: Repository,
    quarantine: Quarantine,
    *,
    shallow: Collection[str],
    say: Callable[[bytes], None],
    progress: bool,
    limits: PushLimits,
) -> None:
    """Read one pack from `protocol` into `quarantine`, every object of it checked.

    `say` gets what the user should see meanwhile. Commits in `shallow` may lack their parents, as far as the objects
    themselves are concerned; whether history is complete is `connectivity`'s question. Raises UnpackError,
    PushLimitError, and ClientGoneError.
    """
    header = _read(protocol, HEADER_BYTES)
    if header[:4] != b"PACK" or int.from_bytes(header[4:8]) not in (2, 3):
        raise UnpackError("what was sent is not a pack")
    limits.check_objects(int.from_bytes(header[COUNT]))
    if int.from_bytes(header[COUNT]) == 0:
        if _read(protocol, CHECKSUM_BYTES) != hashlib.sha1(header, usedforsecurity=False).digest():
            raise UnpackError("the pack's checksum is wrong")
    elif not git_program.installed():
        _without_git(protocol, quarantine, header, limits)
    else:
        try:
            fsck = fsck_exceptions.read(repository.path)
        except UnreadableConfigError as error:
            raise UnpackError(str(error)) from error
        # What has exceptions is for Git to judge, and so is a history whose beginning the pusher does not have.
        received: bytes | None = header
        if not shallow and not fsck.has_exceptions:
            received = _keep_small(streams, repository, quarantine, header, limits)
        if received is not None:
            indexing = PackIndexing(streams, repository, quarantine, received, fsck, limits, say, progress)
            try:
                indexing.take(shallow)
            except DamagedPackError as error:
                raise UnpackError(str(error)) from error


def _keep_small(
    streams: ClientStreams,
    repository: Repository,
    quarantine: Quarantine,
    header: bytes,
    limits: PushLimits,
) -> bytes | None:
    """Take a small pack of plain objects into memory; else return what has come of it so far, for Git to look at."""
    try:
        with stored_objects(repository.path) as stored:
            pack = small_pack.read(streams.read, header, stored.read)
    except small_pack.NotSmallError as more:
        return more.received
    except DamagedPackError as error:
        raise UnpackError(str(error)) from error
    limits.check_pack(len(pack.raw))
    for item in pack.objects.values():
        limits.check_object(len(item.content))
    if not all_plain(pack.objects):
        return pack.raw
    quarantine.small = pack.objects
    return None


def _without_git(protocol: ReceivableProtocol, quarantine: Quarantine, header: bytes, limits: PushLimits) -> None:
    if int.from_bytes(header[COUNT]) > MAX_ENTRIES:
        raise PushLimitError(
            f"a push of more than {MAX_ENTRIES:,} objects takes too much memory on a server without git; push the "
            "history in portions, or have whoever runs the server install git"
        )
    checks = _Checks()
    held_bytes = limits.unpack_bytes // HELD_SHARE
    with quarantine.objects() as folders, (quarantine.folder / "pack" / DRAFT).open("x+b") as file:

        def stored(oid: bytes) -> GitObject | None:
            name = oid.hex().encode()
            return next(filter(None, (folder.read(name, held_bytes) for folder in folders)), None)

        chains = DeltaChains(file, stored, checks.check, limits, held_bytes)
        stream = PackStream(lambda: protocol.recv(git_program.CHUNK_BYTES), header, file, limits, held_bytes)
        try:
            for entry in stream.entries():
                chains.add(entry)
            chains.resolve()
            chains.finish(Path(file.name))
            check_versions(quarantine, checks.submodules)
        except (DamagedPackError, UnsafeSubmoduleError) as error:
            raise UnpackError(str(error)) from error


class _Checks:
    """The form of each object, as dulwich checks it; `submodules` are the `.gitmodules` files that were seen."""

    def __init__(self) -> None:
        self.submodules: set[bytes] = set()

    def check(self, item: GitObject) -> None:
        """Take one object. Raises DamagedPackError and UnsafeSubmoduleError."""
        if item.kind == b"blob":
            return
        try:
            read = ShaFile.from_raw_string(_NUMBERS[item.kind], item.content)
            read.check()
            entries = list(read.iteritems()) if isinstance(read, Tree) else []
        except Exception as error:
            # An object can be wrong in as many ways as dulwich has errors, its assertions included.
            raise DamagedPackError(f"an object of the pack is malformed ({type(error).__name__})") from error
        self.submodules |= {oid for name, mode, oid in entries if check_entry(mode, name)}


def _read(protocol: ReceivableProtocol, size: int) -> bytes:
    data = protocol.read(size)
    if len(data) < size:
        raise UnpackError("early EOF")
    return data
