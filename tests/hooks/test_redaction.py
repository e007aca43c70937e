import base64
import json
import random
import re
from itertools import pairwise
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from hooks.redaction import Patterns, Redactor, patterns
from store.config import VALUE_LIMIT
from store.secret import SHOWN, Secret

secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


def redact(pieces: list[str], *values: str) -> str:
    redactor = Redactor(patterns([{f"V{n}": Secret(value) for n, value in enumerate(values)}]))
    return "".join([*map(redactor.feed, pieces), redactor.flush()])


@given(secrets, st.text(max_size=20), st.text(max_size=20), st.lists(st.integers(0, 120)))
def test_a_secret_is_not_seen_however_the_text_is_cut(secret: str, before: str, after: str, cuts: list[int]) -> None:
    text = before + secret + after
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert "".join(pieces) == text
    shown = redact(pieces, secret)
    assert secret not in shown
    assert SHOWN in shown


@given(st.lists(st.text(max_size=30)))
def test_what_is_no_secret_comes_through_unchanged(pieces: list[str]) -> None:
    assert redact(pieces, "\U0001f510 never printed") == "".join(pieces)


@given(secrets, st.binary(max_size=9), st.binary(max_size=9))
def test_base64_of_a_text_that_contains_it_shows_nothing_of_its_middle(
    secret: str, before: bytes, after: bytes
) -> None:
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    assert SHOWN in redact([encoded], secret)


@given(secrets)
def test_quoted_forms_are_secrets_too(secret: str) -> None:
    for form in (quote(secret, safe=""), json.dumps(secret), f"x{secret}y"):
        assert SHOWN in redact([form], secret)


def test_what_other_languages_make_of_a_secret_is_not_seen() -> None:
    secret = "a/b&c'd~e(f)<g>"
    for form in (
        "a%2fb%26c%27d~e%28f%29%3cg%3e",  # .NET
        "a%2Fb%26c'd~e(f)%3Cg%3E",  # encodeURIComponent
        "a/b&c'd~e(f)%3Cg%3E",  # encodeURI
        "a%2Fb%26c%27d%7Ee%28f%29%3Cg%3E",  # a browser's form
        "a\\/b&c'd~e(f)<g>",  # PHP's JSON
        "a/b\\u0026c'd~e(f)\\u003cg\\u003e",  # Go's JSON
        "a/b&c'\\''d~e(f)<g>",  # sh -x
    ):
        assert redact([form], secret) == SHOWN, form


@given(
    st.binary(max_size=60),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=60, max_size=400),
    st.sampled_from([16, 64, 76]),
    st.sampled_from(["", "#7 0.123 ", "web | ", ">"]),
    st.booleans(),
)
def test_wrapped_base64_of_a_text_that_contains_it_shows_no_line_of_it(
    before: bytes, secret: str, columns: int, prefix: str, url_safe: bool
) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    encoded = encode(before + secret.encode()).decode()
    lines = [encoded[start : start + columns] for start in range(0, len(encoded), columns)]
    shown = redact([f"{prefix}{line}\n" for line in lines], secret)
    first = (len(before) + 2) // 3 * 4
    for number, line in enumerate(lines):
        of_the_secret = line[max(0, first - number * columns) :].rstrip("=")
        if len(of_the_secret) >= 16:
            assert line not in shown


def test_the_longest_values_are_hidden_as_any() -> None:
    size = VALUE_LIMIT // 4 * 3
    values = [base64.b64encode(random.Random(number).randbytes(size)) for number in range(4)]
    redactor = Redactor(patterns([{f"V{n}": Secret(value.decode()) for n, value in enumerate(values)}]))
    assert redactor.feed(f"<{values[2].decode()}>") + redactor.flush() == f"<{SHOWN}>"
    wrapped = base64.encodebytes(b"before it " + values[3]).decode()
    shown = "".join(map(redactor.feed, wrapped.splitlines(keepends=True))) + redactor.flush()
    assert all(line not in shown for line in wrapped.splitlines()[1:-1])


few_letters = st.text("ab", min_size=8, max_size=11)


@given(st.lists(few_letters, min_size=1, max_size=4), st.text("abc", max_size=60), st.lists(st.integers(0, 60)))
def test_it_does_not_matter_where_a_text_is_cut(values: list[str], text: str, cuts: list[int]) -> None:
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    hidden = Patterns(tuple(sorted(set(values), key=len, reverse=True)), frozenset())
    whole, cut = Redactor(hidden), Redactor(hidden)
    expected = re.sub("|".join(hidden.words), SHOWN, text)
    assert whole.feed(text) + whole.flush() == expected
    assert "".join(cut.feed(text[start:end]) for start, end in pairwise(places)) + cut.flush() == expected


def test_long_words_that_are_no_base64_of_a_secret_stay() -> None:
    text = "sha256:4416ff10f408bf7fc66890f73ee5bfa1cba0e98132567a8c5cb430fd8c7a4531 /usr/lib/python3/dist-packages\n"
    assert redact([text], "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC") == text


def test_each_line_of_a_secret_of_several_lines_is_one() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----"
    shown = redact([f"  {line}\n" for line in key.splitlines()], key)
    assert "MIIE" not in shown
    assert "kqhk" not in shown


def test_a_longer_secret_wins_over_one_that_it_contains() -> None:
    assert redact(["abcdefgh", "ijkl"], "abcdefgh", "abcdefghijkl") == SHOWN


def test_short_values_are_hidden_only_where_their_name_tells() -> None:
    redactor = Redactor(patterns([{"DB_PASSWORD": Secret("pw12"), "MODE": Secret("prod"), "TOKEN": Secret("abc")}]))
    assert redactor.feed("pw12 prod abc\n") + redactor.flush() == f"{SHOWN} prod abc\n"
