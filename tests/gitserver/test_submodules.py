"""`.gitmodules` files that would harm whoever clones: refused wherever they are in a push, with C git and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dulwich.objects import Blob, Commit, Tree

from gitserver.submodules import UnsafeSubmoduleError, check
from tests.gitserver.conftest import Door, assert_sound, server_git
from tests.gitserver.wire import blob, commit, new, pack, push, tree


def submodule(*lines: str, name: str = "lib") -> bytes:
    return f'[submodule "{name}"]\n'.encode() + b"".join(f"\t{line}\n".encode() for line in lines)


ESCAPE = submodule("path = ../escape", "url = https://example.net/lib.git")
OPTION = submodule("path = lib", "url = -u./payload")
GOOD = submodule("path = vendor/lib", "url = ../lib.git", "branch = main", "update = rebase")

FORBIDDEN = [
    ESCAPE,
    OPTION,
    submodule("path = /etc/cron.d"),
    submodule("path = lib/../../escape"),
    submodule("path = ..\\\\escape"),
    submodule("path = C:/windows"),
    submodule("path = .GIT/hooks"),
    submodule("path = -option"),
    submodule("path = vendor", "path = ../escape"),
    submodule('url = "https://example.net/\\nlib.git"'),
    submodule("url = https://example.net/%0alib.git"),
    submodule("url = http:///lib.git"),
    submodule("url = ../../:example.net/lib"),
    submodule("URL = --upload-pack=payload"),
    submodule("update = !payload"),
    submodule("path = lib", name="../../hooks"),
    submodule("path = lib", name=""),
    GOOD + ESCAPE,
    b"[submodule",
    GOOD + b"#" * (1 << 20),
]

ALLOWED = [
    GOOD,
    b"",
    b"# nothing yet\n",
    submodule("path = lib/", "url = git@example.net:team/lib.git"),
    submodule("path = lib", "url = https://user@example.net:8443/lib.git?x=%20"),
    submodule("path = ...", "url = ssh://git@example.net/lib"),
    submodule("path = lib", "url = /srv/git/lib.git", name="a..b"),
    b"[core]\n\tpath = ../elsewhere\n",
]


@pytest.mark.parametrize("content", FORBIDDEN, ids=range(len(FORBIDDEN)))
def test_what_must_not_be_in_it(content: bytes) -> None:
    with pytest.raises(UnsafeSubmoduleError):
        check(content)


@pytest.mark.parametrize("content", ALLOWED, ids=range(len(ALLOWED)))
def test_what_projects_have_in_it(content: bytes) -> None:
    check(content)


def project(content: bytes, name: str = ".gitmodules", mode: int = 0o100644) -> tuple[Commit, list[Blob | Tree]]:
    file = blob(content)
    top = Tree()
    top.add(name.encode(), mode, file.id)
    return commit(top), [file, top]


@pytest.mark.parametrize(("content", "name"), [(ESCAPE, ".gitmodules"), (OPTION, ".GITmodules")], ids=["path", "url"])
def test_it_is_refused_at_the_tip(either_door: Door, content: bytes, name: str) -> None:
    top, objects = project(content, name)
    answer = push(either_door, new("refs/heads/b", top), data=pack(top, *objects))
    assert any(line.startswith("ng refs/heads/b") for line in answer.report)
    assert server_git(either_door, "shop", "for-each-ref") == ""
    assert_sound(either_door, "shop")


def test_a_symbolic_link_is_refused(either_door: Door) -> None:
    top, objects = project(b"../elsewhere", mode=0o120000)
    answer = push(either_door, new("refs/heads/b", top), data=pack(top, *objects))
    assert "ng refs/heads/b unpacker error" in answer.report
    assert server_git(either_door, "shop", "for-each-ref") == ""


def test_it_is_refused_in_history_and_in_a_merge(either_door: Door) -> None:
    first, objects = project(ESCAPE)
    cleaned = commit(tree(file=blob(b"text\n")), first)
    answer = push(
        either_door,
        new("refs/heads/b", cleaned),
        data=pack(first, *objects, cleaned, blob(b"text\n"), tree(file=blob(b"text\n"))),
    )
    assert any(line.startswith("ng refs/heads/b") for line in answer.report)
    good, plain = project(GOOD)
    other = commit(tree(file=blob(b"text\n")), good)
    evil, more = project(ESCAPE)
    evil.parents = [good.id, other.id]
    everything = [good, *plain, other, blob(b"text\n"), tree(file=blob(b"text\n")), evil, *more]
    answer = push(either_door, new("refs/heads/b", evil), data=pack(*everything))
    assert any(line.startswith("ng refs/heads/b") for line in answer.report)
    assert server_git(either_door, "shop", "for-each-ref") == ""


def test_a_good_branch_is_taken_beside_a_bad_one_and_the_reason_is_told(start_door: Callable[..., Door]) -> None:
    door = start_door()
    good, plain = project(GOOD)
    bad, more = project(ESCAPE)
    answer = push(door, new("refs/heads/good", good), new("refs/heads/bad", bad), data=pack(good, *plain, bad, *more))
    reason = "its .gitmodules has a path that does not lie in the repository ('../escape'), for submodule 'lib'"
    assert answer.report == [
        "unpack ok",
        "ok refs/heads/good",
        f"ng refs/heads/bad {reason}",
    ]
