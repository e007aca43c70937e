"""A pack from the wire becomes checked objects in a quarantine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, Tree
from dulwich.pack import Pack, unpack_object
from dulwich.protocol import ReceivableProtocol

from gitserver import git_program, inflation, small_pack
from gitserver.limits import PushLimitError, PushLimits
from gitserver.plain_objects import all_plain
from gitserver.quarantine import Quarantine
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
        _add_thin_pack(protocol, quarantine, header, limits)
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
    except small_pack.DamagedPackError as error:
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
    with git_program.running(words, env, streams, most_memory=git_program.MAX_INDEX_MEMORY) as child:
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
    if status not in (0, NOT_SELF_CONTAINED) or not said:
        raise UnpackError("index-pack abnormal exit")
    _check_limits(quarantine, limits)
    if status == 0 and not shallow:
        quarantine.self_contained = True


def _check_limits(quarantine: Quarantine, limits: PushLimits) -> None:
    for pack in (quarantine.folder / "pack").glob("*.pack"):
        inflation.check(pack, limits)


def _add_thin_pack(protocol: ReceivableProtocol, quarantine: Quarantine, header: bytes, limits: PushLimits) -> None:
    ahead = header
    received = 0

    def read_some(size: int) -> bytes:
        nonlocal ahead, received
        data, ahead = (ahead[:size], ahead[size:]) if ahead else (protocol.recv(size), b"")
        if not data:
            raise UnpackError("early EOF")
        received += len(data)
        limits.check_pack(received)
        return data

    def read_all(size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += read_some(size - len(data))
        return data

    with quarantine.store() as store:
        try:
            pack = store.add_thin_pack(read_all, read_some)
            if _end_of_objects(quarantine, pack, received - CHECKSUM_BYTES) != received - CHECKSUM_BYTES:
                raise UnpackError("the pack holds more than it says")
            _check_limits(quarantine, limits)
            _check_objects(store, quarantine)
        except UnsafeSubmoduleError as error:
            raise UnpackError(str(error)) from error
        except (UnpackError, PushLimitError, ClientGoneError):
            raise
        except Exception as error:
            # A pack can be wrong in as many ways as dulwich has errors, its assertions included.
            raise UnpackError(f"the pack or an object of it is damaged ({type(error).__name__})") from error


def _end_of_objects(quarantine: Quarantine, pack: Pack, bound: int) -> int:
    """Return where the last object that was received ends; dulwich takes for granted that the checksum is there.

    Bases that complete a thin pack have been appended at `bound`, and do not count.
    """
    last = max(offset for _, offset, _ in pack.index.iterentries() if offset < bound)
    with next((quarantine.folder / "pack").glob("*.pack")).open("rb") as file:
        file.seek(last)
        _, unused = unpack_object(file.read, hashlib.sha1, read_some=file.read)
        return file.tell() - len(unused)


def _check_objects(store: DiskObjectStore, quarantine: Quarantine) -> None:
    """Check the form of every object that came; `store` holds a quarantine's packs and no others but alternates'."""
    submodules: set[bytes] = set()
    for pack in store.packs:
        for oid in pack:
            item = pack[oid]
            item.check()
            if isinstance(item, Tree):
                submodules |= {oid for name, mode, oid in item.iteritems() if check_entry(mode, name)}
    check_versions(quarantine, submodules)


def _read(protocol: ReceivableProtocol, size: int) -> bytes:
    data = protocol.read(size)
    if len(data) < size:
        raise UnpackError("early EOF")
    return data
