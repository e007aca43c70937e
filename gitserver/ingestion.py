"""A pack from the wire becomes checked objects in a quarantine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from dulwich.objects import ObjectID, ShaFile, Tree
from dulwich.protocol import ReceivableProtocol

from gitserver import git_program, small_pack
from gitserver.delta_chains import DeltaChains
from gitserver.limits import PushLimits
from gitserver.pack_stream import PackStream
from gitserver.plain_objects import all_plain
from gitserver.quarantine import Quarantine
from gitserver.small_pack import DamagedPackError, GitObject
from gitserver.stored_objects import stored_objects
from gitserver.streams import ClientGoneError, ClientStreams
from gitserver.submodules import UnsafeSubmoduleError, check_entry, check_versions
from hooks.engine_room import Repository
from store.errors import SlipwayError

HEADER_BYTES = 12
"""Signature, version and number of objects (gitformat-pack(5))."""

CHECKSUM_BYTES = 20
"""The SHA-1 at the end of a pack."""

SHALLOW_FILE = "shallow-of-the-pusher"
"""In the quarantine: commits whose parents the pusher does not have."""


DRAFT = "tmp_pack_incoming"
"""In the quarantine, where there is no C git: the pack while it is coming."""

HELD_SHARE = 16
"""One object that is held as a whole may take so small a part of the memory for a push: others wait for it, and while
it is put together it is there several times."""

_NUMBERS = {kind: number for number, kind in small_pack.KINDS.items()}

END_OF_INPUT = b"\0"
"""What git-index-pack writes to its standard error when it has read the whole pack (`--report-end-of-input`)."""

NOT_SELF_CONTAINED = 1
"""Its exit status for a sound pack whose objects lead to others (`--check-self-contained-and-connected`)."""

MAX_ERROR_BYTES = 4096
"""How much of its last words is kept to understand them."""


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
    limits.check_objects(int.from_bytes(header[8:]))
    if int.from_bytes(header[8:]) == 0:
        if _read(protocol, CHECKSUM_BYTES) != hashlib.sha1(header, usedforsecurity=False).digest():
            raise UnpackError("the pack's checksum is wrong")
    elif not git_program.installed():
        _without_git(protocol, quarantine, header, limits)
    elif (received := _keep_small(streams, repository, quarantine, header, shallow, limits)) is not None:
        _index_pack(streams, repository, quarantine, received, shallow, say, limits, progress=progress)


def _keep_small(
    streams: ClientStreams,
    repository: Repository,
    quarantine: Quarantine,
    header: bytes,
    shallow: Collection[str],
    limits: PushLimits,
) -> bytes | None:
    """Take a small pack of plain objects into memory; else return what has come of it so far, for Git to look at."""
    if shallow:
        return header
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


def _index_pack(
    streams: ClientStreams,
    repository: Repository,
    quarantine: Quarantine,
    received: bytes,
    shallow: Collection[str],
    say: Callable[[bytes], None],
    limits: PushLimits,
    *,
    progress: bool,
) -> None:
    env = git_program.environment(quarantine.environment)
    if shallow:
        with quarantine.store() as store:
            # A commit that is here already has its parents here: only the others are where history may end.
            ends = [oid for oid in shallow if ObjectID(oid.encode()) not in store]
        path = quarantine.folder / SHALLOW_FILE
        path.write_text("".join(f"{oid}\n" for oid in ends))
        env["GIT_SHALLOW_FILE"] = str(path)
    words = git_program.index_pack(repository.path, progress=progress, most_bytes=limits.pack_bytes)
    # A few bytes of delta, or of zeros, can make an object of any size, which the program then holds.
    objects = int.from_bytes(received[8:HEADER_BYTES])
    memory = limits.unpack_bytes + objects * git_program.INDEX_BYTES_PER_OBJECT
    with git_program.running(words, env, streams, most_memory=memory) as child:
        child.feed(streams, received)
        said: list[bytes] = []
        names = threading.Thread(target=lambda: said.extend(child.output()), daemon=True)
        names.start()
        errors = b""
        with ExitStack() as waiting:
            waiting.enter_context(streams.awaiting_input())
            for data in child.errors():
                if END_OF_INPUT in data:
                    # From here on the client waits for us.
                    waiting.close()
                errors = (errors + data)[-MAX_ERROR_BYTES:]
                if shown := data.replace(END_OF_INPUT, b""):
                    say(shown)
        names.join()
        status = child.wait()
    if streams.gone:
        raise ClientGoneError
    if b"exceeds maximum allowed size" in errors:
        limits.check_pack(limits.pack_bytes + 1)
    if b"out of memory" in errors.lower():
        raise limits.no_memory()
    if status not in (0, NOT_SELF_CONTAINED) or not said:
        raise UnpackError("index-pack abnormal exit")
    if status == 0 and not shallow:
        quarantine.self_contained = True


def _without_git(protocol: ReceivableProtocol, quarantine: Quarantine, header: bytes, limits: PushLimits) -> None:
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
