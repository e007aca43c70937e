"""A channel's input: in order whatever the moment at which it is diverted, and never more than the window."""

from __future__ import annotations

import hashlib
import os
import random
import threading

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitserver.channel_input import WINDOW_BYTES, ChannelInput


class Grants(list[int]):
    """A client that is told what it may send."""

    def __call__(self, count: int) -> bool:
        self.append(count)
        return True


def drain(pipe: int) -> bytes:
    data = b""
    while piece := os.read(pipe, 1 << 20):
        data += piece
    os.close(pipe)
    return data


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_lost_or_swapped_while_it_is_being_diverted(seed: int) -> None:
    chance = random.Random(seed)
    given_input = ChannelInput(lambda count: True)
    pieces = [chance.randbytes(chance.randint(1, 3000)) for _ in range(400)]

    def send() -> None:
        for piece in pieces:
            given_input.feed(piece)
        given_input.end()

    out, pipe = os.pipe()
    sender = threading.Thread(target=send)
    sender.start()
    head = b""
    while len(head) < chance.randint(1, 100_000):
        head += given_input.read(chance.randint(1, 5000))
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(drain(out)))
    reader.start()
    given_input.divert(pipe, b"", 4 << 20)
    sender.join()
    reader.join()
    assert hashlib.sha1(head + received[0]).digest() == hashlib.sha1(b"".join(pieces)).digest()


@given(st.lists(st.binary(max_size=5000), max_size=20), st.integers(0, 20), st.booleans())
def test_what_was_kept_goes_first_and_the_end_closes_the_pipe(
    pieces: list[bytes], before: int, ended_first: bool
) -> None:
    given_input = ChannelInput(lambda count: True)
    for piece in pieces[:before]:
        given_input.feed(piece)
    rest = pieces[before:]
    if ended_first:
        for piece in rest:
            given_input.feed(piece)
        given_input.end()
        rest = []
    out, pipe = os.pipe()
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(drain(out)))
    reader.start()
    given_input.divert(pipe, b"first", 4 << 20)
    for piece in rest:
        given_input.feed(piece)
    given_input.end()
    reader.join()
    assert received == [b"first" + b"".join(pieces)]


def test_a_client_that_sends_more_than_its_window_is_cut_off() -> None:
    given_input = ChannelInput(lambda count: True)
    given_input.feed(bytes(WINDOW_BYTES))
    with pytest.raises(paramiko.SSHException):
        given_input.feed(b"x")


def test_what_is_read_may_be_sent_again_and_not_more() -> None:
    granted = Grants()
    given_input = ChannelInput(granted)
    given_input.feed(bytes(WINDOW_BYTES))
    assert granted == []
    while sum(granted) == 0:
        given_input.read(1 << 16)
    given_input.feed(bytes(sum(granted)))
    with pytest.raises(paramiko.SSHException):
        given_input.feed(bytes(WINDOW_BYTES // 4))


def test_what_could_not_be_granted_during_a_key_exchange_is_granted_after_it() -> None:
    may_send = False
    granted: list[int] = []

    def grant(count: int) -> bool:
        if may_send:
            granted.append(count)
        return may_send

    given_input = ChannelInput(grant)
    out, pipe = os.pipe()
    reader = threading.Thread(target=drain, args=(out,))
    reader.start()
    given_input.divert(pipe, b"", WINDOW_BYTES)
    given_input.feed(bytes(WINDOW_BYTES))
    assert granted == []
    may_send = True
    given_input.settle()
    assert granted == [WINDOW_BYTES]
    given_input.feed(bytes(WINDOW_BYTES))
    given_input.end()
    reader.join()


def test_a_program_that_has_ended_does_not_hold_the_client_up() -> None:
    granted = Grants()
    given_input = ChannelInput(granted)
    out, pipe = os.pipe()
    os.close(out)
    given_input.divert(pipe, b"what is kept", WINDOW_BYTES)
    for _ in range(100):
        given_input.feed(bytes(WINDOW_BYTES // 4))
    assert sum(granted) > 20 * WINDOW_BYTES
    given_input.end()
    assert given_input.read(10) == b""
