"""Objects so plain that there is nothing to check about them: what nearly every commit consists of.

This is no fsck of its own. Whatever is not plain goes to Git's own (git-index-pack(1), `--strict`), which knows what is
unusual and what is an attack; so this side has to be no more generous than Git, and may well be stricter
(git-fsck(1), "FSCK MESSAGES").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from gitserver.small_pack import GitObject

# Names may be anything but what delimits them; dates have no leading zero and fit into any machine's clock.
_IDENT = rb"[^<>\n\0 ][^<>\n\0]* <[^<>\n\0]*> (?:0|[1-9][0-9]{0,10}) [+-][0-9]{4}\n"

_COMMIT = re.compile(
    rb"tree [0-9a-f]{40}\n(?:parent [0-9a-f]{40}\n)*author "
    + _IDENT
    + rb"committer "
    + _IDENT
    # An encoding, a signature of several lines.
    + rb"(?:(?:encoding|gpgsig|gpgsig-sha256) [^\n\0]*\n(?: [^\n\0]*\n)*)*\n[^\0]*"
)

_MODES = {b"100644", b"100755", b"120000", b"40000", b"160000"}

_FILES = {b"100644", b"100755"}

_GIT_FILES = {b".gitignore", b".gitkeep", b".gitlab-ci.yml", b".git-blame-ignore-revs"}
"""Names that begin like Git's own and mean nothing to a check where they are plain files."""

_ODD_NAME = re.compile(
    # What some file system takes for `.git` and its kin: their beginning in any case, the short names of FAT and NTFS,
    # streams and separators of Windows, and letters that HFS+ passes over.
    rb"\.git|[~:\\]|[\x00-\x1f]|\xe2\x80|\xe2\x81|\xef\xbb\xbf",
    re.IGNORECASE,
)

_NULL = bytes(20)


def all_plain(objects: Mapping[bytes, GitObject]) -> bool:
    """Tell whether all objects are commits, trees and blobs that no check of Git's would have a word about."""
    return all(_is_plain(item) for item in objects.values())


def tree_entries(content: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return mode, name and object id of a tree's entries; raises ValueError where it is malformed."""
    entries = []
    position = 0
    while position < len(content):
        space = content.index(b" ", position)
        end = content.index(b"\0", space)
        oid = content[end + 1 : end + 21]
        if len(oid) < 20:
            raise ValueError("a tree that is cut off")
        entries.append((content[position:space], content[space + 1 : end], oid))
        position = end + 21
    return entries


def _is_plain(item: GitObject) -> bool:
    if item.kind == b"blob":
        return True
    if item.kind == b"commit":
        return _COMMIT.fullmatch(item.content) is not None
    return item.kind == b"tree" and _is_plain_tree(item.content)


def _is_plain_tree(content: bytes) -> bool:
    try:
        entries = tree_entries(content)
    except ValueError:
        return False
    # Git sorts a folder as if its name ended in a slash (fsck.c, verify_ordered).
    order = [name + b"/" if mode == b"40000" else name for mode, name, _ in entries]
    names = {name for _, name, _ in entries}
    return (
        len(names) == len(entries)
        and all(earlier < later for earlier, later in pairwise(order))
        and all(_is_plain_entry(*entry) for entry in entries)
    )


def _is_plain_entry(mode: bytes, name: bytes, oid: bytes) -> bool:
    if mode not in _MODES or oid == _NULL or not name or b"/" in name or name in (b".", b".."):
        return False
    if name in _GIT_FILES:
        return mode in _FILES
    if name == b".github":
        return mode == b"40000"
    return _ODD_NAME.search(name) is None
