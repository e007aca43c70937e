"""Dockerfiles, as the builders read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile import KEYWORDS, Dockerfile, DockerfileError, parse, render


def read(text: str) -> list[tuple[int, str]]:
    return [(each.line, each.text) for each in parse(text.encode()).instructions]


def again(file: Dockerfile) -> Dockerfile:
    return parse(render(file, [each.text for each in file.instructions]))


def test_instructions_have_their_lines() -> None:
    assert read("# one\n\nFROM a\n  RUN b\n# c\n\tCMD d") == [(3, "FROM a"), (4, "RUN b"), (6, "CMD d")]


@pytest.mark.parametrize(
    "text",
    [
        "RUN a \\\n  b\n",
        "RUN a \\ \t\n  b\n",
        "RUN a \\\r\n  b\r\n",
        "RUN a \\\n# comment\n  b\n",
        "RUN a \\\n   # comment\n  b\n",
        "RUN a \\\n\n\n  b\n",
        "\\\nRUN a \\\n  b\n",
        "\ufeffRUN a \\\n  b",
        "# escape=`\nRUN a `\n  b",
        "#escape = ` \nRUN a `\n  b",
    ],
)
def test_continuations_join(text: str) -> None:
    (instruction,) = parse(text.encode()).instructions
    assert instruction.text.split() == ["RUN", "a", "b"]


def test_a_word_can_go_over_a_line_end() -> None:
    assert read("FR\\\nOM a\n") == [(1, "FROM a")]


def test_a_doubled_escape_character_continues_nothing() -> None:
    assert read("RUN a \\\\\nRUN b\n") == [(1, "RUN a \\\\"), (2, "RUN b")]


def test_directives_count_at_the_top_only() -> None:
    assert parse(b"# syntax=docker/dockerfile:1\n# escape=`\nFROM a").syntax == "docker/dockerfile:1"
    assert parse(b"# hello\n# escape=`\nFROM a").escape == "\\"
    assert parse(b"\n# escape=`\nFROM a").escape == "\\"
    assert parse(b"# unknown=1\n# escape=`\nFROM a").escape == "\\"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("# only a comment\n", 2),
        ("FROM a\nWHAT b\n", 2),
        ("FROM\n", 1),
        ("FROM a\n\nRUN\n", 3),
        ("# escape=x\nFROM a\n", 1),
        ("# escape=`\n# escape=`\nFROM a\n", 2),
        ("# check=x\n# escape=`\nFROM a\n", 2),
        ("FROM a\nONBUILD FROM b\n", 2),
        ("FROM a\nONBUILD ONBUILD RUN b\n", 2),
        ("FROM a\nCOPY --from='b' c d\n", 2),
        ("FROM a\nCOPY --fr\\om=b c d\n", 2),
        ("FROM a\nCOPY --from=\u00e0 c d\n", 2),
        ("FROM a\nRUN b\rc\n", 2),
        ("FROM a\n\u00a0RUN b\n", 2),
        ("FROM a\nRUN <<EOF\nb\n", 2),
        ("FROM a\nRUN cat << EOF\nb\nEOF\n", 2),
        ("FROM a\nRUN cat <<EOF it's\nb\nEOF\n", 2),
        ("FROM a\nRUN " + "b" * 66_000, 2),
        ("FROM a\nRUN " + "\\\n".join(["b" * 60_000] * 2), 2),
    ],
)
def test_what_is_not_certain_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(DockerfileError, match=f"^Dockerfile line {line}: "):
        parse(text.encode())


def test_text_that_is_not_utf8_is_refused_with_its_line() -> None:
    with pytest.raises(DockerfileError, match="line 2: it is not UTF-8"):
        parse(b"FROM a\nRUN \xff\n")


@pytest.mark.parametrize(
    ("line", "content"),
    [
        ("RUN <<EOF", ["FROM b", "EOF"]),
        ("RUN <<-EOF", ["\tFROM b", "\tEOF"]),
        ("RUN <<'END.1' sh", ["$x", "END.1"]),
        ('COPY <<"a" <<b /x/', ["1", "a", "2", "b"]),
        ("RUN 3<<EOF true", ["EOF"]),
    ],
)
def test_here_documents_belong_to_their_instruction(line: str, content: list[str]) -> None:
    file = parse("\n".join(["FROM a", line, *content, "RUN after"]).encode())
    assert [each.text for each in file.instructions] == ["FROM a", line, "RUN after"]
    assert file.instructions[1].heredoc == tuple(content)
    assert again(file) == file


@pytest.mark.parametrize(
    "line", ["RUN echo $((1<<2))", 'RUN echo "a <<EOF"', "RUN cat <<<word", "ENV A <<EOF", "RUN a<<EOF"]
)
def test_these_are_no_here_documents(line: str) -> None:
    assert read(f"FROM a\n{line}\nRUN b\n")[2] == (3, "RUN b")


@pytest.mark.parametrize(
    ("text", "names", "declares"),
    [
        ("FROM a\nCOPY .aptible.env /\nARG GIT_COMMIT\n", True, True),
        ("FROM a\n# COPY .aptible.env /\n# ARG GIT_COMMIT\n", False, False),
        ("FROM a\nRUN . ./.aptible.env && make\nARG GIT_COMMIT=x Y=z\n", True, True),
        ("FROM a\nARG GIT_COMMITTER\nENV GIT_COMMIT=1\n", False, False),
    ],
)
def test_what_a_dockerfile_asks_for(text: str, names: bool, declares: bool) -> None:
    file = parse(text.encode())
    assert (file.names_config_file, file.declares("GIT_COMMIT")) == (names, declares)


words = [
    "FROM a",
    "RUN b",
    "copy --from=x c d",
    "ARG E=f",
    "ONBUILD",
    "# escape=`",
    "<<EOF",
    "EOF",
    "<<-",
    "$X",
    "\r\n",
]
fragments = st.sampled_from([*words, *"\\` \t\n#'\"\ufeff\u00a0"])
dockerfiles = st.lists(st.one_of(fragments, fragments, st.text(max_size=5)), max_size=30).map("".join)


@given(dockerfiles)
def test_what_is_written_again_reads_the_same(text: str) -> None:
    """The engine reads what `render` wrote, so it has to read the very instructions, at the very lines."""
    try:
        file = parse(text.encode("utf-8", "surrogatepass"))
    except DockerfileError:
        return
    written = render(file, [each.text for each in file.instructions])
    assert parse(written).instructions == file.instructions
    assert again(parse(written)) == parse(written)
    for line in written.decode().split("\n"):
        assert len(line.encode()) <= 65_000


@given(dockerfiles)
def test_every_instruction_is_one_that_the_engine_knows(text: str) -> None:
    try:
        file = parse(text.encode("utf-8", "surrogatepass"))
    except DockerfileError as error:
        assert str(error).startswith("Dockerfile line ")
        return
    for instruction in file.instructions:
        assert instruction.keyword in KEYWORDS
        assert "\n" not in instruction.text
