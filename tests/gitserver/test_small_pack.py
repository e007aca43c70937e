"""Small packs in memory: what is understood is what Git understands, and what is odd or large goes to Git itself."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich.pack import create_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from gitserver import loose_objects, small_pack
from gitserver.plain_objects import all_plain
from gitserver.small_history import leads_to_held
from gitserver.small_pack import DamagedPackError, GitObject, NotSmallError
from gitserver.stored_objects import StoredObjects, stored_objects

IDENT = b"Some One <someone@example.net> 1700000000 +0100\n"


def nothing(oid: bytes, limit: int) -> None:
    return None


def entry(kind: int, content: bytes, base: bytes = b"") -> bytes:
    size, head = len(content) >> 4, kind << 4 | len(content) & 15
    header = bytearray()
    while size:
        header.append(head | 128)
        size, head = size >> 7, size & 127
    header.append(head)
    return bytes(header) + base + zlib.compress(content)


def offset(distance: int) -> bytes:
    data = [distance & 127]
    while distance := distance >> 7:
        distance -= 1
        data.append(distance & 127 | 128)
    return bytes(reversed(data))


def packed(*entries: bytes, count: int | None = None) -> bytes:
    data = b"PACK" + struct.pack(">II", 2, len(entries) if count is None else count) + b"".join(entries)
    return data + hashlib.sha1(data).digest()


def parse(
    data: bytes, base: small_pack.Base = nothing, chunks: Callable[[], int] = lambda: 1 << 16
) -> small_pack.SmallPack:
    position = 12

    def receive(size: int) -> bytes:
        nonlocal position
        piece = data[position : position + min(size, chunks())]
        position += len(piece)
        return piece

    return small_pack.read(receive, data[:12], base)


def delta(old: bytes, new: bytes) -> bytes:
    return b"".join(create_delta(old, new))


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 4]), st.binary(max_size=300)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_whole_objects_come_back_however_they_are_cut(objects: list[tuple[int, bytes]], chance: random.Random) -> None:
    data = packed(*(entry(kind, content) for kind, content in objects))
    parsed = parse(data, chunks=lambda: chance.randint(1, 40))
    assert {(item.kind, item.content) for item in parsed.objects.values()} == {
        (small_pack.KINDS[kind], content) for kind, content in objects
    }
    assert all(oid == item.oid() for oid, item in parsed.objects.items())
    assert parsed.raw == data


@given(st.binary(min_size=1, max_size=2000), st.lists(st.binary(max_size=2000), min_size=1, max_size=8))
def test_chains_of_deltas_of_both_kinds(first: bytes, versions: list[bytes]) -> None:
    whole = entry(3, first)
    entries, before, at = [whole], first, 12
    for number, version in enumerate(versions):
        change = delta(before, version)
        if number % 2:
            made = entry(7, change, bytes.fromhex(GitObject(b"blob", before).oid().decode()))
        else:
            made = entry(6, change, offset(len(entries[-1])))
        at += len(entries[-1])
        entries.append(made)
        before = version
    parsed = parse(packed(*entries))
    assert {item.content for item in parsed.objects.values()} == {first, *versions}


def test_a_thin_pack_takes_its_base_from_the_repository() -> None:
    old = GitObject(b"blob", b"an old text\n" * 50)
    new = old.content + b"one more\n"
    asked = []

    def base(oid: bytes, limit: int) -> GitObject | None:
        asked.append(oid)
        return old if oid == old.oid() else None

    parsed = parse(packed(entry(7, delta(old.content, new), bytes.fromhex(old.oid().decode()))), base)
    assert [item.content for item in parsed.objects.values()] == [new]
    assert asked == [old.oid()]


def test_a_base_that_is_nowhere_is_for_git_to_judge() -> None:
    with pytest.raises(NotSmallError) as raised:
        parse(packed(entry(7, delta(b"a", b"b"), bytes(20))))
    assert raised.value.received.endswith(hashlib.sha1(raised.value.received[:-20]).digest())


def test_deltas_in_a_circle_end() -> None:
    # Each names the other; neither id can be right, and neither is ever resolved.
    with pytest.raises(NotSmallError):
        parse(packed(*(entry(7, delta(b"a", b"b"), bytes([number] * 20)) for number in (1, 2))))


@pytest.mark.parametrize(
    "data",
    [
        packed(entry(3, b"text"))[:-21],
        packed(entry(3, b"text"))[:-1] + b"\0",
        packed(entry(3, b"text")) + b"more",
        packed(entry(3, b"text"), count=2),
        packed(entry(3, b"text"), entry(3, b"other"), count=1),
        packed(entry(5, b"text")),
        packed(entry(0, b"text")),
        packed(entry(3, b"text")[:1] + b"not zlib"),
        packed(bytes([3 << 4 | 5]) + zlib.compress(b"text")),
        packed(bytes([3 << 4 | 3]) + zlib.compress(b"text")),
        packed(b"\xff" * 20),
        packed(entry(3, b"text"), entry(6, delta(b"text", b"b"), offset(1))),
        packed(entry(3, b"text"), entry(6, delta(b"other", b"b"), offset(len(entry(3, b"text"))))),
        packed(entry(3, b"text"), entry(6, b"", offset(len(entry(3, b"text"))))),
        packed(entry(3, b"text"), entry(6, b"\x04\x02\x00", offset(len(entry(3, b"text"))))),
        packed(entry(6, delta(b"a", b"b"), offset(100))),
    ],
)
def test_damage_is_told(data: bytes) -> None:
    with pytest.raises(DamagedPackError):
        parse(data)


@settings(max_examples=300)
@given(st.data())
def test_no_bytes_make_it_fail_otherwise(data: st.DataObject) -> None:
    pack = bytearray(packed(entry(3, b"text " * 50), entry(2, b""), entry(7, delta(b"a", b"b"), bytes(20))))
    for _ in range(data.draw(st.integers(1, 5))):
        pack[data.draw(st.integers(12, len(pack) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(pack))
    except (DamagedPackError, NotSmallError):
        return
    assert hashlib.sha1(pack[:-20]).digest() == pack[-20:]


@pytest.mark.parametrize(
    "data",
    [
        packed(*[entry(3, b"%d" % number) for number in range(small_pack.MAX_OBJECTS + 1)]),
        packed(entry(3, bytes(small_pack.MAX_INFLATED_BYTES + 1))),
        packed(*[entry(3, bytes(small_pack.MAX_INFLATED_BYTES // 2 - number)) for number in range(3)]),
        packed(entry(3, random.Random(1).randbytes(small_pack.MAX_PACK_BYTES))),
        # A delta of a few bytes that copies its base until the result is large.
        packed(
            entry(3, bytes(1 << 16)),
            entry(
                6,
                b"\x80\x80\x04" + b"\x80\x80\x80\x20" + b"\xf0\xff\xff\xff"[:1] * 0 + b"\xb0\x00\x00" * 1024,
                offset(len(entry(3, bytes(1 << 16)))),
            ),
        ),
    ],
    ids=["objects", "one", "together", "pack", "delta"],
)
def test_what_is_large_goes_on_as_it_came(data: bytes) -> None:
    with pytest.raises(NotSmallError) as raised:
        parse(data)
    assert data.startswith(raised.value.received)


def test_a_bomb_is_not_inflated_beyond_what_it_says() -> None:
    with pytest.raises(DamagedPackError):
        parse(packed(bytes([3 << 4 | 1]) + zlib.compress(bytes(1 << 24))))


COMMIT = b"tree " + b"1" * 40 + b"\nparent " + b"2" * 40 + b"\nauthor " + IDENT + b"committer " + IDENT


@pytest.mark.parametrize(
    ("kind", "content", "plain"),
    [
        (b"commit", COMMIT + b"\nmessage\n", True),
        (b"commit", COMMIT + b"\n", True),
        (b"commit", COMMIT + b"gpgsig -----BEGIN\n one\n two\n\nmessage\n", True),
        (b"commit", COMMIT, False),
        (b"commit", COMMIT + b"\nnul \0\n", False),
        (b"commit", COMMIT.replace(b"tree", b"tree "), False),
        (b"commit", COMMIT.replace(b"1700000000", b"01700000000") + b"\n", False),
        (b"commit", COMMIT.replace(b"1700000000", b"999999999999999") + b"\n", False),
        (b"commit", COMMIT.replace(b"<someone", b"someone") + b"\n", False),
        (b"commit", COMMIT.replace(b"+0100", b"100") + b"\n", False),
        (b"commit", COMMIT + b"author " + IDENT + b"\n", False),
        (b"tree", b"100644 a\0" + b"x" * 20 + b"40000 b\0" + b"x" * 20 + b"100755 c\0" + b"x" * 20, True),
        (b"tree", b"100644 .gitignore\0" + b"x" * 20, True),
        (b"tree", b"40000 .github\0" + b"x" * 20, True),
        (b"tree", b"160000 module\0" + b"x" * 20, True),
        (b"tree", b"120000 .gitignore\0" + b"x" * 20, False),
        (b"tree", b"100644 .gitmodules\0" + b"x" * 20, False),
        (b"tree", b"100644 .gitattributes\0" + b"x" * 20, False),
        (b"tree", b"40000 .git\0" + b"x" * 20, False),
        (b"tree", b"40000 .GIT\0" + b"x" * 20, False),
        (b"tree", b"40000 git~1\0" + b"x" * 20, False),
        (b"tree", b"40000 .g\xe2\x80\x8cit\0" + b"x" * 20, False),
        (b"tree", b"100644 ..\0" + b"x" * 20, False),
        (b"tree", b"100644 a/b\0" + b"x" * 20, False),
        (b"tree", b"100644 a\\b\0" + b"x" * 20, False),
        (b"tree", b"100644 \0" + b"x" * 20, False),
        (b"tree", b"0100644 a\0" + b"x" * 20, False),
        (b"tree", b"100664 a\0" + b"x" * 20, False),
        (b"tree", b"100644 a\0" + bytes(20), False),
        (b"tree", b"100644 a\0" + b"x" * 19, False),
        (b"tree", b"100644 b\0" + b"x" * 20 + b"100644 a\0" + b"x" * 20, False),
        (b"tree", b"100644 a\0" + b"x" * 20 + b"100644 a\0" + b"y" * 20, False),
        (b"tree", b"100644 a\0" + b"x" * 20 + b"100644 a.b\0" + b"x" * 20 + b"40000 a\0" + b"y" * 20, False),
        (b"tag", b"object " + b"1" * 40 + b"\n", False),
    ],
)
def test_only_plain_objects_need_no_git(kind: bytes, content: bytes, plain: bool) -> None:
    assert all_plain({b"": GitObject(kind, content)}) is plain


NAMES = st.one_of(
    st.sampled_from(
        [b".git", b".GIT", b"git~1", b".gitmodules", b"..", b".", b"a", b"a.b", b"a-b", b"ab", b".gitignore"]
    ),
    st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"100644", b"40000", b"100664", b"0100644"]), NAMES), min_size=1, max_size=4),
    st.binary(max_size=30),
)
def test_what_is_plain_passes_gits_own_check(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[bytes, bytes]], message: bytes
) -> None:
    content = b"".join(mode + b" " + name + b"\0" + b"\x11" * 20 for mode, name in entries)
    commit = COMMIT.replace(b"parent " + b"2" * 40 + b"\n", b"") + b"\n" + message
    if not all_plain({b"1": GitObject(b"tree", content), b"2": GitObject(b"commit", commit)}):
        return
    repository = tmp_path_factory.mktemp("fsck")
    subprocess.run(["git", "init", "-q", "--bare", str(repository)], check=True)
    done = subprocess.run(
        ["git", "--git-dir", str(repository), "index-pack", "--stdin", "--fsck-objects"],
        input=packed(entry(2, content), entry(1, commit)),
        capture_output=True,
        check=False,
    )
    assert b"error" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "store.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    stream = b""
    for number in range(12):
        text = b"".join(b"line %d of %d\n" % (line, number if line == 5 else 0) for line in range(400))
        stream += b"commit refs/heads/main\ncommitter " + IDENT.replace(b"+0100", b"+0000")
        stream += b"data 2\nx\nM 100644 inline dir/file\ndata %d\n%s\n" % (len(text), text)
    subprocess.run(["git", "--git-dir", str(path), "fast-import", "--quiet"], input=stream, check=True)
    return path


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", "--git-dir", str(repository), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("packs", [True, False])
def test_stored_objects_are_read_as_git_reads_them(repository: Path, packs: bool) -> None:
    git(repository, "repack", "-adfq", "--depth=50")
    if not packs:
        (pack,) = (repository / "objects/pack").glob("*.pack")
        data = pack.read_bytes()
        for path in (repository / "objects/pack").iterdir():
            path.unlink()
        subprocess.run(["git", "--git-dir", str(repository), "unpack-objects", "-q"], input=data, check=True)
    listed = git(repository, "cat-file", "--batch-all-objects", "--batch-check").splitlines()
    assert len(listed) == 48
    with stored_objects(repository) as stored:
        for line in listed:
            oid, kind, size = line.split()
            item = stored.read(oid.encode(), 1 << 20)
            assert item is not None
            assert (item.kind.decode(), len(item.content), item.oid().decode()) == (kind, int(size), oid)
            assert stored.read(oid.encode(), int(size) - 1) is None
            assert oid.encode() in stored
        assert stored.read(b"1" * 40, 1 << 20) is None
        assert b"1" * 40 not in stored


def test_a_large_stored_object_is_not_loaded(tmp_path: Path) -> None:
    large = GitObject(b"blob", bytes(32 << 20))
    loose_objects.write(tmp_path, {large.oid(): large})
    stored = StoredObjects(tmp_path)
    assert stored.read(large.oid(), 8 << 20) is None
    assert stored.read(large.oid(), 64 << 20) == large


def test_what_is_written_is_what_git_reads(repository: Path) -> None:
    blob = GitObject(b"blob", b"text\n")
    for _ in range(2):
        loose_objects.write(repository / "objects", {blob.oid(): blob})
    assert git(repository, "cat-file", "-p", blob.oid().decode()) == "text"
    git(repository, "fsck", "--strict")
    assert not list((repository / "objects").rglob("tmp_*"))


def new_commit(tree: GitObject, *parents: str) -> GitObject:
    lines = [b"tree " + tree.oid(), *(b"parent " + parent.encode() for parent in parents)]
    return GitObject(b"commit", b"\n".join(lines) + b"\nauthor " + IDENT + b"committer " + IDENT + b"\nx\n")


def new_tree(**entries: tuple[bytes, bytes]) -> GitObject:
    return GitObject(
        b"tree",
        b"".join(
            mode + b" " + name.encode() + b"\0" + bytes.fromhex(oid.decode()) for name, (mode, oid) in entries.items()
        ),
    )


def test_history_is_proved_by_what_refs_hold(repository: Path) -> None:
    head = git(repository, "rev-parse", "main")
    before = git(repository, "rev-parse", "main~1")
    old_file = git(repository, "rev-parse", "main:dir/file").encode()
    older_file = git(repository, "rev-parse", "main~1:dir/file").encode()
    blob = GitObject(b"blob", b"new\n")

    def proved(file: bytes, *objects: GitObject, parent: str = head, left_out: bytes = b"") -> bool:
        folder = new_tree(file=(b"100644", file), other=(b"100644", blob.oid()))
        root = new_tree(dir=(b"40000", folder.oid()))
        commit = new_commit(root, parent)
        new = {item.oid(): item for item in (folder, root, commit, *objects) if item.oid() != left_out}
        with stored_objects(repository) as stored:
            return leads_to_held(commit.oid(), new, {head.encode()}, stored)

    assert proved(old_file, blob)
    # Without the blob, without what was under the parent, or with a parent that no ref holds: perhaps, but not proved.
    assert not proved(old_file)
    assert not proved(older_file, blob)
    assert not proved(b"1" * 40, blob)
    assert not proved(old_file, blob, parent=before)
    assert not proved(old_file, blob, parent="3" * 40)
    folder = new_tree(file=(b"100644", old_file), other=(b"100644", blob.oid()))
    assert not proved(old_file, blob, left_out=folder.oid())
    # A file's id where a folder is said to be.
    root = new_tree(dir=(b"40000", old_file))
    commit = new_commit(root, head)
    with stored_objects(repository) as stored:
        assert not leads_to_held(commit.oid(), {item.oid(): item for item in (root, commit)}, {head.encode()}, stored)
        assert leads_to_held(head.encode(), {}, {head.encode()}, stored)
        assert not leads_to_held(before.encode(), {}, {head.encode()}, stored)
