"""A pack from the wire becomes checked objects in a quarantine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import Pack, unpack_object
from dulwich.protocol import ReceivableProtocol

from gitserver import git_program
from gitserver.quarantine import Quarantine
from gitserver.streams import ClientGoneError, ClientStreams
from hooks.engine_room import Repository
from store.errors import SlipwayError

HEADER_BYTES = 12
"""Signature, version and number of objects (gitformat-pack(5))."""

CHECKSUM_BYTES = 20
"""The SHA-1 at the end of a pack."""

SHALLOW_FILE = "shallow-of-the-pusher"
"""In the quarantine: commits whose parents the pusher does not have."""


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
) -> None:
    """Read one pack from `protocol` into `quarantine`, every object of it checked.

    `say` gets what the user should see meanwhile. Commits in `shallow` may lack their parents, as far as the objects
    themselves are concerned; whether history is complete is `connectivity`'s question. Raises UnpackError, and
    ClientGoneError.
    """
    header = _read(protocol, HEADER_BYTES)
    if header[:4] != b"PACK" or int.from_bytes(header[4:8]) not in (2, 3):
        raise UnpackError("what was sent is not a pack")
    if int.from_bytes(header[8:]) == 0:
        if _read(protocol, CHECKSUM_BYTES) != hashlib.sha1(header, usedforsecurity=False).digest():
            raise UnpackError("the pack's checksum is wrong")
    elif git_program.installed():
        _index_pack(streams, protocol, repository, quarantine, header, shallow, say, progress=progress)
    else:
        _add_thin_pack(protocol, quarantine, header)


def _index_pack(
    streams: ClientStreams,
    protocol: ReceivableProtocol,
    repository: Repository,
    quarantine: Quarantine,
    header: bytes,
    shallow: Collection[str],
    say: Callable[[bytes], None],
    *,
    progress: bool,
) -> None:
    env = git_program.environment(quarantine.environment)
    with quarantine.store() as store:
        # A commit that is here already has its parents here: only the others are where history may end.
        ends = [oid for oid in shallow if ObjectID(oid.encode()) not in store]
    if ends:
        path = quarantine.folder / SHALLOW_FILE
        path.write_text("".join(f"{oid}\n" for oid in ends))
        env["GIT_SHALLOW_FILE"] = str(path)
    with git_program.running(git_program.index_pack(repository.path, progress=progress), env, streams) as child:
        child.feed(lambda: protocol.recv(git_program.CHUNK_BYTES), header)
        names = threading.Thread(target=lambda: [*child.output()], daemon=True)
        names.start()
        for data in child.errors():
            say(data)
        names.join()
        status = child.wait()
    if streams.gone:
        raise ClientGoneError
    if status != 0:
        raise UnpackError("index-pack abnormal exit")


def _add_thin_pack(protocol: ReceivableProtocol, quarantine: Quarantine, header: bytes) -> None:
    ahead = header
    received = 0

    def read_some(size: int) -> bytes:
        nonlocal ahead, received
        data, ahead = (ahead[:size], ahead[size:]) if ahead else (protocol.recv(size), b"")
        if not data:
            raise UnpackError("early EOF")
        received += len(data)
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
            _check_objects(store)
        except (UnpackError, ClientGoneError):
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


def _check_objects(store: DiskObjectStore) -> None:
    """Check the form of every object that came; `store` holds a quarantine's packs and no others but alternates'."""
    for pack in store.packs:
        for oid in pack:
            pack[oid].check()


def _read(protocol: ReceivableProtocol, size: int) -> bytes:
    data = protocol.read(size)
    if len(data) < size:
        raise UnpackError("early EOF")
    return data
