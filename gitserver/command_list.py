"""What a client asks of a push: its shallow boundary, its commands, its capabilities and its push options.

The grammar is `update-requests` of gitprotocol-pack(5), "Reference Update Request and Packfile Transfer". Everything is
bounded, since all of it is held in memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dulwich.errors import GitProtocolError, HangupException
from dulwich.protocol import ReceivableProtocol
from dulwich.refs import Ref, check_ref_format

from gitserver.limits import PushLimits
from gitserver.streams import ClientGoneError
from hooks.pre_receive import ZERO, RefUpdate
from store.errors import SlipwayError
from store.secret import Secret

MAX_BYTES = 16 << 20
"""Most bytes of commands and options together."""

_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\0\n]+)")
_SHALLOW = re.compile(rb"shallow ([0-9a-f]{40})")


class PushProtocolError(SlipwayError):
    """A client does not speak the protocol of git-receive-pack; nothing was changed."""

    exit_status = 128
    """As Git's own programs die."""


class PushProtocol(ReceivableProtocol):
    """Pkt-lines as dulwich reads them, the empty one (0004) included, which is how Git sends an empty push option."""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end of the input."""
        return super().read(size) if size else b""


@dataclass(frozen=True)
class PushRequest:
    """All that a client says before the pack."""

    updates: tuple[RefUpdate, ...]
    capabilities: frozenset[bytes] = frozenset()
    options: tuple[Secret, ...] = ()
    """Push options, which may set config to secrets."""
    shallow: tuple[str, ...] = ()
    """Commits of the client's whose parents it does not have."""

    @property
    def has_pack(self) -> bool:
        """Whether a pack follows; none does for deletions alone."""
        return any(update.new != ZERO for update in self.updates)


def read_request(protocol: PushProtocol, limits: PushLimits) -> PushRequest | None:
    """Read a client's request, or return None if it wants nothing after having seen the refs.

    Raises PushProtocolError, PushLimitError, and ClientGoneError where the input ends too early.
    """
    lines = _Lines(protocol, limits)
    shallow: list[str] = []
    updates: list[RefUpdate] = []
    capabilities = frozenset[bytes]()
    # A client that needs nothing may leave without the flush packet that says so.
    line = lines.next(may_end=True)
    while line is not None:
        if match := _SHALLOW.fullmatch(line):
            shallow.append(match[1].decode())
        else:
            if not updates:
                line, _, words = line.partition(b"\0")
                capabilities = frozenset(words.split())
            updates.append(_update(line))
        line = lines.next()
    if not updates:
        return None
    if not capabilities.isdisjoint({b"object-format=sha256"}):
        raise PushProtocolError(
            "this server keeps SHA-1 repositories; push from a repository with --object-format=sha1"
        )
    options = []
    if b"push-options" in capabilities:
        while (line := lines.next()) is not None:
            options.append(Secret(_text(line, "a push option")))
    return PushRequest(tuple(updates), capabilities, tuple(options), tuple(shallow))


def name_refusal(update: RefUpdate) -> str | None:
    """Return why a ref may not have this name (git-check-ref-format(1)), in the words of Git's own receive-pack."""
    name = update.ref.encode()
    valid = name.startswith(b"refs/") and check_ref_format(Ref(name.removeprefix(b"refs/")))
    return None if valid else "funny refname"


class _Lines:
    """The lines of a request, counted."""

    def __init__(self, protocol: PushProtocol, limits: PushLimits) -> None:
        self._protocol = protocol
        self._limits = limits
        self._count = self._bytes = 0

    def next(self, *, may_end: bool = False) -> bytes | None:
        """Return a line without its end, or None for a flush packet."""
        try:
            line = self._protocol.read_pkt_line()
        except HangupException:
            if may_end:
                return None
            raise ClientGoneError from None
        except GitProtocolError as error:
            raise PushProtocolError(f"this is not Git's protocol ({error}); use git push") from error
        if line is None:
            return None
        self._count += 1
        self._bytes += len(line)
        # Shallow commits and options are lines like any other: each costs memory.
        self._limits.check_refs(self._count)
        if self._bytes > MAX_BYTES:
            raise PushProtocolError(f"the push names more than {MAX_BYTES >> 20} MiB of refs; push them in portions")
        return line.removesuffix(b"\n")


def _update(line: bytes) -> RefUpdate:
    match = _COMMAND.fullmatch(line)
    if match is None:
        raise PushProtocolError("the push asks for something that is not an update of a ref; use git push")
    return RefUpdate(_text(match[3], "the name of a ref"), match[1].decode(), match[2].decode())


def _text(line: bytes, what: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise PushProtocolError(f"{what} is not UTF-8; nothing was pushed") from None
