"""The build context for BuildKit: the commit's files, sent as BuildKit asks for them.

The protocol is that of github.com/tonistiigi/fsutil (send.go, receive.go), on the gRPC method
`moby.filesync.v1.FileSync/DiffCopy`: this side lists every path with a STAT packet in the order of paths, BuildKit
requests the regular files that it wants by their number in that list, and gets each as DATA packets up to an empty one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import cast

import grpc

from builder import blobs
from builder.blobs import Content
from builder.buildkit.messages_pb2 import Packet, Stat
from builder.buildkit.session import Handler
from builder.context import DOCKERFILE, TIME_STAMP, Context, ContextError, require_content
from builder.source import Entry
from store.errors import SlipwayError

METHOD = "/moby.filesync.v1.FileSync/DiffCopy"
_MODIFIED = TIME_STAMP * 1_000_000_000
"""Nanoseconds."""
_GO_FOLDER, _GO_SYMLINK = 1 << 31, 1 << 27
"""Type bits of Go's io/fs.FileMode."""

_Requests = queue.SimpleQueue[Packet | None]


class FileSync:
    """Answers BuildKit's wish for the two folders of a build: `dockerfile` and `context`."""

    def __init__(self, context: Context, dockerfile: bytes) -> None:
        self._context = context
        self._dockerfile = dockerfile
        self.error: SlipwayError | None = None
        """Why the context could not be sent, where BuildKit only knows that it ended."""

    def handler(self) -> Handler:
        """Return the answer to METHOD."""
        return grpc.stream_stream_rpc_method_handler(self._diff_copy, Packet.FromString, Packet.SerializeToString)

    def _diff_copy(self, packets: Iterator[Packet], call: grpc.ServicerContext) -> Iterator[Packet]:
        asked = dict(cast("list[tuple[str, str]]", call.invocation_metadata()))
        # Requests come while the list is still being sent; BuildKit must never wait for them to be read.
        requests = _Requests()
        threading.Thread(target=_receive, args=(packets, requests), name="buildkit-requests", daemon=True).start()
        try:
            match asked.get("dir-name"):
                case "dockerfile":
                    stat = _stat(DOCKERFILE, 0o644, len(self._dockerfile))
                    yield from _send(iter([stat]), lambda _: iter([iter([self._dockerfile])]), requests)
                case "context" if asked.get("followpaths") == ".dockerignore":
                    # It has been obeyed already.
                    yield from _send(iter([]), lambda _: iter([]), requests)
                case "context":
                    yield from self._send_context(requests)
                case _:
                    call.abort(grpc.StatusCode.NOT_FOUND, "no such folder")
        except SlipwayError as error:
            self.error = error
            call.abort(grpc.StatusCode.ABORTED, "the build context cannot be read")

    def _send_context(self, requests: _Requests) -> Iterator[Packet]:
        files = dict[int, Entry]()

        def stats() -> Iterator[Stat]:
            for number, (entry, size) in enumerate(self._context.tree.sizes(self._context.entries())):
                if entry.is_regular:
                    files[number] = entry
                else:
                    require_content(entry, b"")
                yield self._stat_of(entry, size)

        with self._context.tree.reader() as reader:

            def read(numbers: list[int]) -> Iterator[Iterator[bytes]]:
                wanted = [files.pop(number) for number in numbers]
                ids = [entry.object for entry in wanted if entry.object]
                reader.ask(ids)
                answers = reader.answers(ids)
                for entry in wanted:
                    if entry.object:
                        yield _checked(next(answers), entry)
                    else:
                        yield iter([self._context.extra[entry.path.decode()]])
                for _ in answers:
                    pass

            yield from _send(stats(), read, requests)

    def _stat_of(self, entry: Entry, size: int | None) -> Stat:
        try:
            path = entry.path.decode()
            if entry.is_symlink:
                return _stat(path, _GO_SYMLINK | 0o777, 0, self._context.tree.blob(entry).decode())
        except UnicodeDecodeError:
            shown = entry.path.decode("utf-8", "replace")
            raise ContextError(
                f"BuildKit takes only names in UTF-8, and '{shown}' is none; rename it, or leave it out with "
                ".dockerignore"
            ) from None
        if not entry.is_regular:
            return _stat(path, _GO_FOLDER | 0o755, 0)
        size = len(self._context.extra[path]) if size is None else size
        return _stat(path, 0o755 if entry.mode & 0o100 else 0o644, size)


def _checked(content: Content, entry: Entry) -> Iterator[bytes]:
    for number, piece in enumerate(content.pieces()):
        if number == 0:
            require_content(entry, piece)
        yield piece


def _stat(path: str, mode: int, size: int, link: str = "") -> Stat:
    return Stat(path=path, mode=mode, size=size, modified=_MODIFIED, link=link)


def _send(
    stats: Iterator[Stat], read: Callable[[list[int]], Iterator[Iterator[bytes]]], requests: _Requests
) -> Iterator[Packet]:
    for stat in stats:
        yield Packet(type=Packet.STAT, stat=stat)
    yield Packet(type=Packet.STAT)
    while (request := requests.get()) is not None:
        if request.type == Packet.FINISHED:
            yield Packet(type=Packet.FINISHED)
            return
        if request.type != Packet.REQUEST:
            continue
        numbers = [request.id, *_more(requests)]
        for number, content in zip(numbers, read(numbers), strict=True):
            for piece in content:
                yield Packet(type=Packet.DATA, id=number, data=piece)
            yield Packet(type=Packet.DATA, id=number)


def _more(requests: _Requests) -> Iterator[int]:
    """Yield requests that are there already, so that git can read ahead."""
    for _ in range(blobs.GROUP - 1):
        try:
            request = requests.get_nowait()
        except queue.Empty:
            return
        if request is None or request.type != Packet.REQUEST:
            # What comes after the requests ends the call, as soon as these have been answered.
            requests.put(request)
            return
        yield request.id


def _receive(packets: Iterator[Packet], requests: _Requests) -> None:
    try:
        for packet in packets:
            requests.put(packet)
    except grpc.RpcError:
        # The call is over: cancelled, or the connection is gone.
        pass
    finally:
        requests.put(None)
