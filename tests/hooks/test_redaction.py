import base64
import json
from itertools import pairwise
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from hooks.redaction import Redactor, patterns
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
