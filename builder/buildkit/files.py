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

from builder.buildkit.messages_pb2 import Packet, Stat
from builder.buildkit.session import Handler
from builder.context import DOCKERFILE, TIME_STAMP, Context, ContextError, Missing
from builder.source import Entry
from store.errors import SlipwayError

METHOD = "/moby.filesync.v1.FileSync/DiffCopy"
PIECE = 512 << 10
"""Bytes of one DATA packet. gRPC's own limit for a message is 4 MiB."""

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
                    yield from _send(iter([stat]), lambda _: self._dockerfile, requests)
                case "context" if asked.get("followpaths") == ".dockerignore":
                    # It has been obeyed already.
                    yield from _send(iter([]), lambda _: b"", requests)
                case "context":
                    yield from self._send_context(requests)
                case _:
                    call.abort(grpc.StatusCode.NOT_FOUND, "no such folder")
        except SlipwayError as error:
            self.error = error
            call.abort(grpc.StatusCode.ABORTED, "the build context cannot be read")

    def _send_context(self, requests: _Requests) -> Iterator[Packet]:
        missing, files = Missing(), dict[int, Entry]()

        def stats() -> Iterator[Stat]:
            for number, entry in enumerate(self._context.entries()):
                if entry.is_regular:
                    files[number] = entry
                elif entry.is_submodule:
                    missing.notice(entry, None)
                yield self._stat_of(entry)

        def read(number: int) -> bytes:
            content = self._context.read(files[number])
            missing.notice(files.pop(number), content)
            return content

        yield from _send(stats(), read, requests)
        missing.tell(self._context.say)

    def _stat_of(self, entry: Entry) -> Stat:
        try:
            path = entry.path.decode()
            if entry.is_symlink:
                return _stat(path, _GO_SYMLINK | 0o777, 0, self._context.read(entry).decode())
        except UnicodeDecodeError:
            shown = entry.path.decode("utf-8", "replace")
            raise ContextError(
                f"BuildKit takes only names in UTF-8, and '{shown}' is none; rename it, or leave it out with "
                ".dockerignore"
            ) from None
        if not entry.is_regular:
            return _stat(path, _GO_FOLDER | 0o755, 0)
        return _stat(path, 0o755 if entry.mode & 0o100 else 0o644, self._context.size(entry))


def _stat(path: str, mode: int, size: int, link: str = "") -> Stat:
    return Stat(path=path, mode=mode, size=size, modified=_MODIFIED, link=link)


def _send(stats: Iterator[Stat], read: Callable[[int], bytes], requests: _Requests) -> Iterator[Packet]:
    for stat in stats:
        yield Packet(type=Packet.STAT, stat=stat)
    yield Packet(type=Packet.STAT)
    while (request := requests.get()) is not None:
        if request.type == Packet.FINISHED:
            yield Packet(type=Packet.FINISHED)
            return
        if request.type == Packet.REQUEST:
            content = read(request.id)
            for start in range(0, len(content), PIECE):
                yield Packet(type=Packet.DATA, id=request.id, data=content[start : start + PIECE])
            yield Packet(type=Packet.DATA, id=request.id)


def _receive(packets: Iterator[Packet], requests: _Requests) -> None:
    try:
        for packet in packets:
            requests.put(packet)
    except grpc.RpcError:
        # The call is over: cancelled, or the connection is gone.
        pass
    finally:
        requests.put(None)
