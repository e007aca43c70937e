"""Which images a Dockerfile takes from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import stages
from builder.dockerfile import DockerfileError, parse
from builder.substitution import UncertainWordError, expand

COMMIT = "c0ffee" * 6 + "c0ff"


def uses(text: str) -> list[tuple[int, str, str | None]]:
    found = stages.read(parse(text.encode()), COMMIT).uses.values()
    return [(use.line, str(use.reference), use.platform) for use in found]


def pinned(text: str) -> list[str]:
    file = parse(text.encode())
    return stages.pinned(file, stages.read(file, COMMIT), lambda use: f"<{use.reference}>").decode().splitlines()


def test_images_and_stages_are_told_apart() -> None:
    text = """
ARG TAG=12
FROM debian:${TAG} AS Build
FROM build AS test
RUN --mount=type=bind,from=build,target=/b true
FROM scratch
COPY --from=0 /a /
COPY --from=BUILD /a /
COPY --from=ghcr.io/o/tool:1 --chown=1:1 /a /
ADD https://example.com/x /
"""
    assert uses(text) == [(3, "docker.io/library/debian:12", None), (9, "ghcr.io/o/tool:1", None)]
    assert pinned(text)[2:] == [
        "FROM <docker.io/library/debian:12> AS Build",
        "FROM build AS test",
        "RUN --mount=type=bind,from=build,target=/b true",
        "FROM scratch",
        "COPY --from=0 /a /",
        "COPY --from=BUILD /a /",
        "COPY --from=<ghcr.io/o/tool:1> --chown=1:1 /a /",
        "ADD https://example.com/x /",
    ]


def test_what_is_pinned_keeps_its_line() -> None:
    assert pinned("# a\n\nFROM --platform=linux/arm64 \\\n  a AS b\n\nRUN \\\n c\n") == [
        "", "", "FROM --platform=linux/arm64 <docker.io/library/a:latest> AS b", "", "", "RUN  c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "image", "meant"),
    [
        ("ARG A=x", "$A", "x:latest"),
        ("ARG A=x", "${A}y", "xy:latest"),
        ("ARG A=x B=y", "$A/$B:1", "x/y:1"),
        ("ARG A=x\nARG A=y", "$A", "y:latest"),
        ("ARG A='x'", "$A", "x:latest"),
        ('ARG A="x"\nARG B="$A-y"', "$B", "x-y:latest"),
        ("ARG A", "${A:-z}", "z:latest"),
        ("ARG A=", "${A:-z}", "z:latest"),
        ("ARG A=x", "${A:+z}", "z:latest"),
        ("ARG A=x", "b${C:+z}", "b:latest"),
        ("ARG A=x", "${B:-${C:-$A}}", "x:latest"),
        ("ARG GIT_COMMIT=x", "b:$GIT_COMMIT", f"b:{COMMIT}"),
    ],
)
def test_arguments_are_substituted(arguments: str, image: str, meant: str) -> None:
    ((_, reference, _),) = uses(f"{arguments}\nFROM {image}\n")
    assert reference.removeprefix("docker.io/").removeprefix("library/") == meant


@pytest.mark.parametrize("platform", ["$BUILDPLATFORM", "${TARGETPLATFORM}"])
def test_the_engines_own_platform_needs_no_option(platform: str) -> None:
    assert pinned(f"FROM --platform={platform} a\n") == ["FROM <docker.io/library/a:latest>"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("RUN a\nFROM b\n", 1),
        ("ARG A=1\n", 1),
        ("FROM $A\n", 1),
        ("ARG A\nFROM $A\n", 2),
        ("ARG A=1\nARG A\nFROM b:$A\n", 3),
        ("FROM a\nARG A=1\nFROM b:$A\n", 3),
        ("ARG A='$B'\nFROM $A\n", 2),
        ("ARG A=x\\y\nFROM a\n", 1),
        ("ARG TARGETARCH=x\nFROM a\n", 1),
        ("FROM a:$TARGETARCH\n", 1),
        ("FROM a:${B:?no}\n", 1),
        ("FROM a:${B#c}\n", 1),
        ("FROM a:${B\n", 1),
        ("FROM 'a'\n", 1),
        ("FROM a b\n", 1),
        ("FROM a AS 1\n", 1),
        ("FROM a AS scratch\n", 1),
        ("FROM a AS b\nFROM c AS B\n", 2),
        ("FROM --other=1 a\n", 1),
        ("FROM --platform=a/b/c/d a\n", 1),
        ("FROM A\n", 1),
        ("FROM Scratch\n", 1),
        ("FROM a\nCOPY --from=0 b c\n", 2),
        ("FROM a\nCOPY --from=1 b c\n", 2),
        ("FROM a\nCOPY --from=+0 b c\n", 2),
        ("FROM a\nCOPY --from= b c\n", 2),
        ("FROM a\nCOPY --from=scratch b c\n", 2),
        ("FROM a AS x\nCOPY --from=x b c\n", 2),
        ("FROM a\nCOPY --from=later b c\nFROM d AS later\n", 2),
        ("FROM a\nCOPY --from=x --from=y b c\n", 2),
        ("FROM a\nCOPY --from=$x b c\n", 2),
        ("FROM a\nONBUILD COPY --from=x b c\n", 2),
        ("FROM a\nRUN --mount=from=x b\n", 2),
        ("FROM a\nRUN --mount=type=bind,From=x b\n", 2),
    ],
)
def test_what_cannot_be_resolved_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(DockerfileError, match=f"^Dockerfile line {line}: "):
        uses(text)


def test_triggers_may_copy_from_stages_only() -> None:
    (*_, use) = stages.read(parse(b"FROM a AS tools\nFROM b\n"), COMMIT).uses.values()
    for honest in ("COPY --from=tools x y", "COPY --from=0 x y", "RUN make", "copy . /app"):
        stages.check_trigger(honest, use)
    for trap in (
        "COPY --from=c x y",
        "COPY --from=1 x y",
        "RUN --mount=from=c x",
        "ONBUILD COPY --from=c x y",
        "# escape=`\nCOPY --from=c x y",
        "COPY x y\nCOPY --from=c x y",
        "FROM c",
    ):
        with pytest.raises(DockerfileError, match=r"^Dockerfile line 2: "):
            stages.check_trigger(trap, use)


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,4}", fullmatch=True)
plain = st.from_regex(r"[a-z0-9./:-]{0,8}", fullmatch=True)


@given(st.dictionaries(names, plain.filter(bool)), st.lists(st.tuples(plain, names, plain)), plain)
def test_substitution_is_the_shells(variables: dict[str, str], parts: list[tuple[str, str, str]], end: str) -> None:
    word = "".join(f"{before}${{{name}:-{other}}}" for before, name, other in parts) + end
    expected = "".join(before + variables.get(name, other) for before, name, other in parts) + end
    assert expand(word, variables) == expected
    word = "".join(f"{before}${{{name}:+{other}}}" for before, name, other in parts) + end
    expected = "".join(before + (other if name in variables else "") for before, name, other in parts) + end
    assert expand(word, variables) == expected


@given(st.text(alphabet="$${}:-+ab'\"\\`", max_size=20))
def test_nothing_unresolved_is_left_over(word: str) -> None:
    try:
        result = expand(word, {"a": "x"})
    except UncertainWordError:
        return
    assert not set(result) & set("${}'\"\\`")
