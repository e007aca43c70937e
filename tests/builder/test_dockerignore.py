"""`.dockerignore`, by the rules of moby's patternmatcher."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerignore import Dockerignore, DockerignoreError, parse

# Rows of moby/patternmatcher's own test of MatchesOrParentMatches, and of the documentation of .dockerignore.
ROWS = [
    ("**", "file", True), ("**", "dir/file", True), ("**/", "file", True), ("**/", "dir/", True),
    ("**/**", "dir/file", True), ("dir/**", "dir/file", True), ("dir/**", "dir/dir2/file", True),
    ("**/dir", "dir", True), ("**/dir", "dir/file", True), ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir/dir2/dir2/file", True), ("**file", "file", True), ("**file", "dir/file", True),
    ("**/file", "dir/dir/file", True), ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True), ("**/file*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True), ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True), ("a**/*.txt", "a/file.txt", True), ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False), ("a/*.txt", "a/file.txt", True), ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True), ("a[^b-d]e", "aze", True), (".*", ".foo", True), (".*", "foo", False),
    ("abc.def", "abcdef", False), ("abc?def", "abcZdef", True), ("abc?def", "abcdef", False), ("a\\\\", "a\\", True),
    ("**/foo/bar", "foo/bar", True), ("**/foo/bar", "dir/dir2/foo/bar", True), ("abc/**", "abc", False),
    ("*/temp*", "somedir/temporary.txt", True), ("*/*/temp*", "somedir/sub/temporary.txt", True),
    ("temp?", "tempa", True), ("/foo/", "foo/x", True), ("foo/../bar", "bar", True), ("  spaced  ", "spaced", True),
    ("# comment", "# comment", False), ("*\n!README.md", "README.md", False), ("*\n!README.md", "other.md", True),
    ("*.md\n!README*\nREADME-s.md", "README-s.md", True), ("dir\n!dir/keep", "dir/keep", False),
    ("dir\n!dir/keep", "dir/other", True), ("!a\na", "a", True), ("", "a", False),
    ("**/node_modules", "a/b/node_modules/c/d", True), ("a(b)+|c.d", "a(b)+|c.d", True), ("[a-c]/x", "b/x", True),
]  # fmt: skip


def ignores(rules: Dockerignore, path: str) -> bool:
    """Judge a path as a walk does, folder by folder."""
    verdict, parts = rules.root, path.split("/")
    for count in range(1, len(parts) + 1):
        verdict = rules.judge("/".join(parts[:count]), verdict)
    return verdict.ignored


@pytest.mark.parametrize(("patterns", "path", "ignored"), ROWS)
def test_the_documented_rules(patterns: str, path: str, ignored: bool) -> None:
    assert ignores(parse(patterns.encode()), path.rstrip("/")) is ignored


@pytest.mark.parametrize("patterns", ["!", "a\n[", "a[b", "x\\", "[z-a]"])
def test_a_pattern_that_cannot_be_read_is_refused_with_its_line(patterns: str) -> None:
    number = patterns.count("\n") + 1
    with pytest.raises(DockerignoreError, match=f"line {number}"):
        parse(patterns.encode())


@given(
    st.text(alphabet="ab*?[]!^-\\/#. \n()+", max_size=20),
    st.from_regex(r"[ab.]{1,3}(/[ab.]{1,3}){0,2}", fullmatch=True),
)
def test_any_text_is_rules_or_an_error(patterns: str, path: str) -> None:
    try:
        rules = parse(patterns.encode())
    except DockerignoreError:
        return
    assert ignores(rules, path) in (True, False)
    if not rules.has_exceptions and ignores(rules, path):
        assert ignores(rules, f"{path}/below"), "what is in an ignored folder is ignored"
