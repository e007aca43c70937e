"""The build context, straight from Git objects."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.repo import Repo
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import context
from builder.credentials import PASSWORD, USERNAME
from builder.source import Source, SourceError, open_tree
from store.secret import Secret


def commit(folder: Path, entries: Mapping[bytes, tuple[int, bytes]]) -> Source:
    """Write a commit with one flat tree, whatever its names are."""
    folder.mkdir(exist_ok=True)
    with Repo.init_bare(str(folder)) as repository:
        tree = Tree()
        for name, (mode, content) in entries.items():
            blob = Blob.from_string(content)
            repository.object_store.add_object(blob)
            tree.add(name, mode, blob.id)
        repository.object_store.add_object(tree)
        return commit_of(repository, folder, tree.id)


def commit_of(repository: Repo, folder: Path, tree: ObjectID) -> Source:
    made = Commit()
    made.tree = tree
    made.author = made.committer = b"Ada <ada@example.com>"
    made.author_time = made.commit_time = made.author_timezone = made.commit_timezone = 0
    made.message = b"x"
    repository.object_store.add_object(made)
    return Source(folder, made.id.decode())


def nested(folder: Path, depth: int, names: bytes) -> Source:
    """Write a commit of `depth` trees, each naming the next one by every letter of `names`."""
    with Repo.init_bare(str(folder)) as repository:
        below = Blob.from_string(b"")
        repository.object_store.add_object(below)
        mode, object_id = 0o100644, below.id
        for _ in range(depth):
            tree = Tree()
            for name in names:
                tree.add(bytes([name]), mode, object_id)
            repository.object_store.add_object(tree)
            mode, object_id = 0o040000, tree.id
        return commit_of(repository, folder, object_id)


def members(source: Source, extra: Mapping[str, bytes] | None = None) -> list[tuple[tarfile.TarInfo, bytes | None]]:
    with open_tree(source) as tree:
        stream = b"".join(context.stream(tree, ".", extra=extra or {}))
    with tarfile.open(fileobj=io.BytesIO(stream), errors="surrogateescape") as archive:
        found: list[tuple[tarfile.TarInfo, bytes | None]] = []
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.isreg() else None
            found.append((member, file.read() if file else None))
        return found


names = st.one_of(
    st.text(alphabet="abcäπ .-_", min_size=1, max_size=120).map(str.encode), st.binary(min_size=1, max_size=10)
).filter(lambda name: not {0, 47} & set(name) and name.lower() not in (b".", b"..", b".git", b".dockerignore"))

contents = st.binary(max_size=2000).filter(lambda content: not content.startswith(context._LFS_POINTER))
"""Hypothesis takes constants out of the code under test, and a pointer is refused."""


@settings(max_examples=60, deadline=None)
@given(files=st.dictionaries(names, st.tuples(st.sampled_from([0o100644, 0o100755]), contents), max_size=6))
def test_any_tree_arrives_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, files: dict[bytes, tuple[int, bytes]]
) -> None:
    source = commit(tmp_path_factory.mktemp("repository"), files)
    arrived = {
        member.name.encode("utf-8", "surrogateescape"): (0o100000 | member.mode, content)
        for member, content in members(source)
        if member.name != ".dockerignore"
    }
    assert arrived == files


def test_the_stream_is_the_same_each_time(tmp_path: Path) -> None:
    source = commit(tmp_path, {b"b": (0o100644, b"1"), b"a": (0o120000, b"b"), b"c": (0o100755, b"2")})
    found = members(source)
    assert [member.name for member, _ in found] == [".dockerignore", "a", "b", "c"]
    assert {member.mtime for member, _ in found} == {946_684_800}
    assert {(member.uid, member.gid) for member, _ in found} == {(0, 0)}
    assert found[1][0].linkname == "b"


@pytest.mark.parametrize("name", [b"..", b".", b".git", b".GIT", b"a/b", b"../x", b"/etc"])
def test_a_hostile_name_is_refused(tmp_path: Path, name: bytes) -> None:
    source = commit(tmp_path, {name: (0o100644, b"")})
    with pytest.raises(SourceError, match="which is unsafe"):
        members(source)


def test_what_is_extra_takes_the_place_of_the_trees_own(tmp_path: Path) -> None:
    source = commit(tmp_path, {b".aptible.env": (0o100644, b"from the commit")})
    found = [(member.name, content) for member, content in members(source, {".aptible.env": b"from config"})]
    assert [content for name, content in found if name == ".aptible.env"] == [b"from config"]


values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{2,9}_", fullmatch=True), values, max_size=4))
def test_the_config_file_is_what_a_shell_reads(config: dict[str, str]) -> None:
    secrets = {key: Secret(value) for key, value in (config | {USERNAME: "u", PASSWORD: "p"}).items()}
    script = context.config_file(secrets) + b"".join(b"printf '%s\\0' \"$" + key.encode() + b'"\n' for key in config)
    done = subprocess.run(["sh"], input=script, capture_output=True, check=True, env={})
    assert done.stdout.split(b"\0")[:-1] == [value.encode() for value in config.values()]
    assert PASSWORD.encode() not in context.config_file(secrets)


def test_memory_is_bounded_by_the_largest_file(tmp_path: Path) -> None:
    """Pieces are handed over as they are made: none is much larger than the largest file."""
    source = commit(tmp_path, {b"%03d" % number: (0o100644, bytes([number]) * 100_000) for number in range(40)})
    with open_tree(source) as tree:
        pieces: Iterator[bytes] = context.stream(tree, ".", extra={})
        sizes = [len(piece) for piece in pieces]
    assert sum(sizes) > 4_000_000
    assert max(sizes) < context.PIECE + 110_000


def test_a_bomb_of_trees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty trees, each naming the next one ten times, unfold to more files than any disk can hold."""
    monkeypatch.setattr(context, "MOST_ENTRIES", 5_000)
    with open_tree(nested(tmp_path, 20, b"abcdefghij")) as tree, pytest.raises(context.ContextError, match="entries"):
        for _ in context.stream(tree, ".", extra={}):
            pass


def test_a_tree_is_as_deep_as_a_path_can_be(tmp_path: Path) -> None:
    with open_tree(nested(tmp_path, 3000, b"d")) as tree, pytest.raises(context.ContextError, match="4096 bytes"):
        for _ in context.stream(tree, ".", extra={}):
            pass
