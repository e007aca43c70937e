"""The build context: a commit's tree as the tar stream that the engine wants, made while it is sent.

Everything in it depends on the tree alone, so that layer caches hit: the order is Git's, every time stamp is the same,
owners are root. The format is POSIX.1-2001's (pax), whose extended headers carry names of any length.
"""

from __future__ import annotations

import heapq
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder import dockerignore, git_credentials
from builder.blobs import Content
from builder.credentials import REGISTRY_VARIABLES
from builder.dockerignore import Dockerignore
from builder.output import one_line
from builder.source import CommitTree, Entry
from store.errors import SlipwayError
from store.secret import Secret

TIME_STAMP = 946_684_800
"""2000-01-01 00:00 UTC in seconds, the same for every file, as in the flow that this product follows."""
CONFIG_FILE = ".aptible.env"
DOCKERFILE = ".slipway.Dockerfile"
"""Where the Dockerfile that is built lies in the context; a `.dockerignore` line keeps it out of images."""
PIECE = 256 << 10
"""Bytes that are sent at once at least. One chunk a file would cost a system call or two each."""
MOST_ENTRIES = 250_000
LONGEST_PATH = 4096
"""Bytes: Linux's PATH_MAX, so a longer one could not be unpacked."""
LARGEST = 16 << 30
"""Bytes of the whole stream."""

_BLOCK = 512
_SHORT = 100
"""Bytes of a name in a plain header (POSIX.1-2001, "ustar Interchange Format")."""
_ELEVEN_OCTAL_DIGITS = 8**11
_USTAR = b"ustar\x0000".ljust(72, b"\0") + b"0000000\0" * 2 + bytes(167)
"""From the magic number to the end of the block: no owners' names, no device, no prefix."""
_SUM = sum(_USTAR) + 8 * ord(" ")
"""What is the same in the checksum of every header; its own field counts as blanks."""
_ROOT, _TIME = b"%07o\0%07o\0" % (0, 0), b"%011o\0" % TIME_STAMP
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LONGEST_POINTER = 1024
"""Bytes; the Git LFS specification says that a pointer file is smaller."""


class ContextError(SlipwayError):
    """The commit's tree cannot be a build context."""


def config_file(config: Mapping[str, Secret]) -> bytes:
    """Return the content of `.aptible.env`: the app's config for a POSIX shell, without registry credentials."""
    return "".join(
        f"{key}={shlex.quote(value.reveal())}\n"
        for key, value in sorted(config.items())
        if key not in REGISTRY_VARIABLES
    ).encode()


@dataclass(frozen=True)
class Context:
    """A folder of a commit as a build context, to be read by a builder."""

    tree: CommitTree
    folder: str
    extra: Mapping[str, bytes]
    """Files at the context's root that take the place of the tree's own, by name."""

    def tar(self, dockerfile: bytes) -> Iterator[bytes]:
        """Yield the tar stream that the classic builder reads, with the Dockerfile in it under the name DOCKERFILE.

        See `stream` for what is raised.
        """
        return stream(self.tree, self.folder, extra={**self.extra, DOCKERFILE: dockerfile})

    def entries(self) -> Iterator[Entry]:
        """Yield what is in the context, in the order of paths as BuildKit wants it: names compared within each folder.

        Raises SourceError, DockerignoreError, ContextError.
        """
        rules = dockerignore.parse(self.tree.file(f"{self.folder}/{dockerignore.NAME}") or b"")
        own = {name.encode(): Entry(name.encode(), 0o100644, b"") for name in self.extra}
        of_tree = _walk(self.tree, self.tree.folder(self.folder), rules, set(own), by_name=True)
        yield from heapq.merge((own[name] for name in sorted(own)), of_tree, key=lambda entry: entry.path.split(b"/"))


def stream(tree: CommitTree, folder: str, *, extra: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the tar stream of a folder of the commit.

    `extra` are files at the context's root that take the place of the tree's own; the one called DOCKERFILE is the
    engine's alone. Raises SourceError, DockerignoreError, ContextError, the last for submodules and files in Git LFS
    too. Memory stays the same whatever the size of tree and files.
    """
    own_rules = tree.file(f"{folder}/{dockerignore.NAME}")
    files = dict(extra)
    files[dockerignore.NAME] = _with_dockerfile_left_out(own_rules)
    rules = dockerignore.parse(own_rules or b"")
    pending: list[bytes] = []
    size = total = 0
    for piece in _members(tree, tree.folder(folder), rules, files):
        pending.append(piece)
        size += len(piece)
        total += len(piece)
        if total > LARGEST:
            raise ContextError(
                f"The build context is larger than {LARGEST >> 30} GiB; leave folders out with .dockerignore"
            )
        if size >= PIECE:
            yield b"".join(pending)
            pending, size = [], 0
    pending.append(bytes(2 * _BLOCK))
    yield b"".join(pending)


def _with_dockerfile_left_out(own: bytes | None) -> bytes:
    """Return the `.dockerignore` that is sent: the engine removes from the context what it names of these two files."""
    if own is None:
        return f"{DOCKERFILE}\n{dockerignore.NAME}\n".encode()
    return own + (b"" if own.endswith(b"\n") or not own else b"\n") + f"{DOCKERFILE}\n".encode()


def require_content(entry: Entry, beginning: bytes) -> None:
    """Refuse an entry whose content lies elsewhere; `beginning` is that of what the repository has.

    Raises ContextError: what a build would find in its place is an empty folder, or a pointer (Git LFS specification,
    "The Pointer").
    """
    is_pointer = len(beginning) < _LONGEST_POINTER and beginning.startswith(_LFS_POINTER)
    if not is_pointer and not entry.is_submodule:
        return
    path = one_line(entry.path.decode("utf-8", "replace"))
    if entry.is_submodule:
        raise ContextError(
            f"{path} is a submodule, and a push does not carry its files; set {git_credentials.VARIABLE} to "
            "https://USER:TOKEN@HOST for its host, so that they are fetched, commit them instead (git subtree does), "
            f"or leave it out of the build with a line {path} in .dockerignore"
        )
    if is_pointer:
        raise ContextError(
            f"{path} is in Git LFS, and a push does not carry its content; take it out of LFS (git lfs migrate "
            f"export), download it in the Dockerfile, or leave it out of the build with a line {path} in .dockerignore"
        )


def _members(tree: CommitTree, root: bytes, rules: Dockerignore, files: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, text in sorted(files.items()):
        yield from _file(name.encode(), 0o644, text)
    for entry, content in tree.contents(_walk(tree, root, rules, {name.encode() for name in files})):
        if content is None:
            require_content(entry, b"")
            yield _header(entry.path, tarfile.DIRTYPE, 0o755)
        elif entry.is_symlink:
            yield _header(entry.path, tarfile.SYMTYPE, 0o777, link=_target(entry, content))
        else:
            yield _header(entry.path, tarfile.REGTYPE, 0o755 if entry.mode & 0o100 else 0o644, size=content.size)
            for number, piece in enumerate(content.pieces()):
                if number == 0:
                    require_content(entry, piece)
                yield piece
            yield bytes(-content.size % _BLOCK)


def _target(entry: Entry, content: Content) -> bytes:
    """Return where a symbolic link leads."""
    if content.size > LONGEST_PATH:
        raise ContextError(f"The symbolic link {entry.path.decode('utf-8', 'replace')} is longer than a path can be")
    return content.whole()


def _walk(
    tree: CommitTree, root: bytes, rules: Dockerignore, replaced: set[bytes], *, by_name: bool = False
) -> Iterator[Entry]:
    """Yield what `.dockerignore` leaves in, folders before what is in them."""

    def children(folder: bytes, path: bytes) -> Iterator[Entry]:
        found = tree.children(folder, path)
        # Git orders a folder as if its name ended with a slash (git's tree.c, base_name_compare).
        return iter(sorted(found, key=lambda entry: entry.path)) if by_name else found

    waiting = [(children(root, b""), rules.root)]
    unsaid: list[Entry] = []
    """Ignored folders on the way to where the walk is. One is in the context after all if something in it is."""
    seen = 0
    while waiting:
        entries, folder = waiting[-1]
        entry = next(entries, None)
        if entry is None:
            waiting.pop()
            continue
        seen += 1
        # A few small trees that name each other many times unfold to more files than any disk can hold.
        if seen > MOST_ENTRIES or len(entry.path) > LONGEST_PATH:
            raise ContextError(
                f"The build context has more than {MOST_ENTRIES} entries, or a path of more than {LONGEST_PATH} bytes; "
                "leave folders out with .dockerignore"
            )
        if entry.path in replaced:
            continue
        verdict = rules.judge(entry.path.decode("utf-8", "surrogateescape"), folder)
        if unsaid:
            unsaid = [above for above in unsaid if entry.path.startswith(above.path + b"/")]
        if not verdict.ignored:
            yield from unsaid
            unsaid.clear()
            yield entry
        if entry.is_folder and (not verdict.ignored or rules.has_exceptions):
            if verdict.ignored:
                unsaid.append(entry)
            waiting.append((children(entry.object, entry.path), verdict))


def _file(path: bytes, mode: int, content: bytes) -> Iterator[bytes]:
    yield _header(path, tarfile.REGTYPE, mode, size=len(content))
    yield content
    yield bytes(-len(content) % _BLOCK)


def _header(path: bytes, kind: bytes, mode: int, *, size: int = 0, link: bytes = b"") -> bytes:
    if len(path) <= _SHORT and len(link) <= _SHORT and size < _ELEVEN_OCTAL_DIGITS:
        # The same bytes as below, in a tenth of the time, which counts with tens of thousands of files.
        start = b"%b%07o\0%b%011o\0%b" % (path.ljust(_SHORT, b"\0"), mode, _ROOT, size, _TIME)
        end = kind + link.ljust(_SHORT, b"\0")
        return b"%b%06o\0 %b%b" % (start, sum(start) + sum(end) + _SUM, end, _USTAR)
    member = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
    member.type, member.mode, member.size, member.mtime = kind, mode, size, TIME_STAMP
    member.linkname = link.decode("utf-8", "surrogateescape")
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
