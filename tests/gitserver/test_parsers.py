"""The readers of what strangers send: whatever it is, they return or raise what they say they raise."""

from __future__ import annotations

import contextlib
import shlex
from io import BytesIO
from pathlib import Path

import pytest
from dulwich.protocol import pkt_line
from hypothesis import given
from hypothesis import strategies as st

from gitserver import git_program
from gitserver.advertisement import advertisement
from gitserver.command_list import PushProtocol, PushProtocolError, PushRequest, read_request
from gitserver.exec_request import CommandRequest, GitRequest, first_word, parse
from gitserver.limits import PushLimitError, PushLimits
from gitserver.report import report
from gitserver.streams import ClientGoneError
from hooks.pre_receive import ZERO, RefUpdate
from store.errors import UsageError

OIDS = st.text("0123456789abcdef", min_size=40, max_size=40)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), min_size=1, max_size=50)


def read(data: bytes) -> PushRequest | None:
    return read_request(PushProtocol(BytesIO(data).read, lambda _: None), PushLimits())


@given(st.binary(max_size=300))
def test_any_exec_line_is_a_request_or_a_usage_error(line: bytes) -> None:
    try:
        request = parse(line)
    except UsageError:
        return
    if isinstance(request, CommandRequest):
        assert request.line.encode() == line


@given(
    st.sampled_from(["git-upload-pack", "git-receive-pack", "git upload-pack", "git receive-pack"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
)
def test_a_quoted_path_is_read_back(service: str, path: str) -> None:
    assert parse(f"{service} {shlex.quote(path)}".encode()) == GitRequest(
        "git-upload-pack" if "upload" in service else "git-receive-pack", path
    )


def test_only_git_services_are_gits() -> None:
    assert parse(b"git push") == CommandRequest("git push")
    assert parse(b"receive-pack 'x'") == CommandRequest("receive-pack 'x'")
    assert parse(b"git-upload-archive 'x'") == CommandRequest("git-upload-archive 'x'")
    with pytest.raises(UsageError):
        parse(b"git-upload-pack 'x")


@given(st.binary())
def test_the_first_word_is_all_that_is_shown(line: bytes) -> None:
    assert len(first_word(line)) <= 64
    assert " " not in first_word(line)


@given(st.binary(max_size=300))
def test_any_push_request_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(PushProtocolError, ClientGoneError):
        read(data)


WORDS = st.sampled_from(
    [
        *(
            ZERO,
            "1" * 40,
            "1" * 39,
            "g" * 40,
            " ",
            "refs/heads/x",
            "refs/heads/..",
            "\0",
            "\n",
            "shallow ",
            "push-cert",
        ),
        *("report-status", "push-options", "atomic", "object-format=sha256", "config=A=1", "push-cert", "ü"),
    ]
)
PACKETS = st.one_of(
    st.lists(WORDS, max_size=8).map(lambda words: pkt_line("".join(words).encode())),
    st.sampled_from([b"0000", b"0001", b"0002", b"0003", b"0004", b"ffff", b"FFFF", b"-001", b"+005", b"00 5"]),
    st.binary(max_size=40).map(pkt_line),
    st.builds(
        lambda old, new, words: pkt_line(f"{old} {new} refs/heads/x\0 {' '.join(words)}".encode()),
        st.sampled_from([ZERO, "1" * 40]),
        st.sampled_from([ZERO, "2" * 40]),
        st.lists(WORDS, max_size=3),
    ),
)


@given(st.lists(PACKETS, max_size=12).map(b"".join))
def test_any_packets_are_a_push_request_or_refused(data: bytes) -> None:
    with contextlib.suppress(PushProtocolError, ClientGoneError):
        request = read(data)
        assert request is None or request.updates


@given(st.integers(1, 5), st.integers(1, 9))
def test_a_push_request_is_bounded(most: int, sent: int) -> None:
    lines = [pkt_line(f"{ZERO} {'1' * 40} refs/heads/b{number}".encode()) for number in range(sent)]
    protocol = PushProtocol(BytesIO(b"".join(lines) + b"0000").read, lambda _: None)
    if sent > most:
        with pytest.raises(PushLimitError, match=f"more than {most} refs"):
            read_request(protocol, PushLimits(refs=most))
    else:
        request = read_request(protocol, PushLimits(refs=most))
        assert request is not None
        assert len(request.updates) == sent


@given(
    st.lists(st.builds(RefUpdate, NAMES, OIDS, OIDS), min_size=1, max_size=5),
    st.lists(OIDS, max_size=3),
    st.lists(NAMES, max_size=3),
)
def test_what_a_client_asks_is_read_back(updates: list[RefUpdate], shallow: list[str], options: list[str]) -> None:
    data = b"".join(pkt_line(f"shallow {oid}".encode()) for oid in shallow)
    for number, update in enumerate(updates):
        words = "\0 report-status push-options atomic" if number == 0 else ""
        data += pkt_line(f"{update.old} {update.new} {update.ref}{words}\n".encode())
    data += b"0000" + b"".join(pkt_line(option.encode()) for option in options) + b"0000"
    request = read(data)
    assert request is not None
    assert list(request.updates) == updates
    assert [option.reveal() for option in request.options] == options
    assert not any(option in repr(request.options) for option in options if len(option) > 10)
    assert list(request.shallow) == shallow
    assert request.capabilities == {b"report-status", b"push-options", b"atomic"}
    assert request.has_pack == any(update.new != ZERO for update in updates)


@given(st.text(), st.dictionaries(st.just("refs/heads/x"), st.none() | st.text()))
def test_a_report_has_one_line_per_fact(unpack: str, results: dict[str, str | None]) -> None:
    protocol = PushProtocol(BytesIO(report(unpack, results)).read, lambda _: None)
    lines = [*protocol.read_pkt_seq()]
    assert len(lines) == 1 + len(results)
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)


def test_an_empty_repository_advertises_its_capabilities() -> None:
    line = advertisement([])
    assert line[4:].startswith(ZERO.encode() + b" capabilities^{}\0report-status ")
    assert line.endswith(b"\n0000")


def test_argument_lists() -> None:
    path = Path("/data/shop.git")
    safe, folder = ["git", "-c", "safe.directory=/data/shop.git"], ["--git-dir", "/data/shop.git"]
    modest = ["-c", "core.deltaBaseCacheLimit=4m", "-c", "core.packedGitWindowSize=1m", "-c", "core.packedGitLimit=8m"]
    assert git_program.upload_pack(path) == [
        *safe, "-c", "transfer.hideRefs=refs/slipway", *folder, "upload-pack", "--strict", "/data/shop.git"
    ]  # fmt: skip
    assert git_program.index_pack(path, fsck=["--strict"], progress=False, most_bytes=1 << 30) == [
        *safe, "-c", "core.bigFileThreshold=4194304", *modest, *folder, "index-pack", "--stdin", "--fix-thin",
        "--strict", "--check-self-contained-and-connected", "--report-end-of-input", "--max-input-size=1073741824",
    ]  # fmt: skip
    assert "SSH_AUTH_SOCK" not in git_program.environment()
