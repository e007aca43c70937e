"""What a session asks for (RFC 4254, 6.5): a Git service on a repository, or a user command for the engine room."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from hooks.engine_room import GitService
from store.errors import UsageError

_SERVICES: dict[str, GitService] = {"receive-pack": "git-receive-pack", "upload-pack": "git-upload-pack"}


@dataclass(frozen=True)
class GitRequest:
    """A Git client's `git-receive-pack 'PATH'` or `git-upload-pack 'PATH'` (gitprotocol-pack(5), "SSH Transport")."""

    service: GitService
    path: str
    """The repository as the client names it; what it names is the engine room's to say."""


@dataclass(frozen=True)
class CommandRequest:
    """Anything else: a line for the engine room, as it came."""

    line: str


def parse(line: bytes) -> GitRequest | CommandRequest:
    """Read the line of an exec request.

    Raises UsageError for bytes that are not UTF-8, and for a Git service with anything but one path.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise UsageError("the command is not UTF-8; send it as UTF-8") from None
    first, _, rest = text.strip().partition(" ")
    if first == "git":
        # Git allows its programs to be spelled with a space: `git receive-pack`.
        second, _, rest = rest.strip().partition(" ")
        if second not in _SERVICES:
            return CommandRequest(text)
        return GitRequest(_SERVICES[second], _path(second, rest))
    name = first.removeprefix("git-")
    if first == name or name not in _SERVICES:
        return CommandRequest(text)
    return GitRequest(_SERVICES[name], _path(name, rest))


def first_word(line: bytes) -> str:
    """Return what of a command may be logged: its first word, since any later one may be a secret."""
    return line[:64].decode("ascii", "replace").strip().partition(" ")[0]


def _path(service: str, words: str) -> str:
    try:
        parts = shlex.split(words)
    except ValueError:
        parts = []
    if len(parts) != 1 or "\0" in words:
        raise UsageError(f"git-{service} takes one repository; name it as in git@HOST:ENVIRONMENT/APP.git")
    return parts[0]
