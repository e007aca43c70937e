"""Image references: what people write, what is meant, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.reference import MalformedReferenceError, Reference, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4

hosts = st.from_regex(r"(?:[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.[a-z]{2,4}|localhost|127\.0\.0\.1)", fullmatch=True)
ports = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
repositories = st.from_regex(
    r"[a-z0-9]{1,5}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(?:/[a-z0-9]{1,5}){0,3}", fullmatch=True
)
tags = st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))
digests = st.one_of(st.none(), st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("index.docker.io/team/app", "docker.io/team/app:latest"),
        ("team/app:1", "docker.io/team/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x"),
        ("Registry.Example.COM/app", "registry.example.com/app:latest"),
        (f"ghcr.io/o/app@{DIGEST}", f"ghcr.io/o/app@{DIGEST}"),
        (f"ghcr.io/o/app:1@{DIGEST}", f"ghcr.io/o/app:1@{DIGEST}"),
    ],
)
def test_short_forms_are_docker_s(written: str, meant: str) -> None:
    assert str(parse(written)) == meant


@pytest.mark.parametrize(
    "written",
    [
        "", ":", "@", "/", "a//b", "/a", "a/", "A", "Team/app", "a:", "a:b:c", "a b", "a@sha256:12",
        "a@sha256:" + "A" * 64, "http://example.com/a", "example.com:0/a", "example.com:70000/a", "-x.com/a",
        "..", "../a", "example.com/../a", "a:" + "x" * 129, "example.com/" + "a" * 260,
        "a\n", "ä", "$X", DIGEST, DIGEST[7:], "[::1]:5000/a",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(written: str) -> None:
    with pytest.raises(MalformedReferenceError):
        parse(written)


@given(hosts, ports, repositories, tags, digests)
def test_every_part_comes_back(host: str, port: str, repository: str, tag: str | None, digest: str | None) -> None:
    written = f"{host}{port}/{repository}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    expected = Reference(host + port, repository, tag or (None if digest else "latest"), digest)
    assert parse(written) == expected
    assert parse(str(expected)) == expected
    assert expected.manifest == (digest or tag or "latest")


@given(st.text(max_size=80))
def test_anything_else_is_a_sentence(text: str) -> None:
    """Whatever comes in, it is a reference in full form, or one clear error on one line."""
    try:
        found = parse(text)
    except MalformedReferenceError as error:
        assert "\n" not in str(error)
    else:
        assert parse(str(found)) == found
        assert found.name.isascii()
