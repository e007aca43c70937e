"""What clients may take, and what everybody else notices of one who takes too much: nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitserver.limits import INFLATION_FLOOR_BYTES, ConnectionLimits, PushLimitError, PushLimits
from gitserver.patience import LEAST_BYTES_PER_SECOND, Patience
from gitserver.places import NoPlaceError, Places, TooManyStrangersError
from tests.gitserver.conftest import Door, assert_sound, eventually, make_key, server_git, workspace
from tests.gitserver.test_receive_pack import FIRST, WHOLE
from tests.gitserver.wire import RawPush, new, push

StartDoor = Callable[..., Door]


def stranger(door: Door, address: str = "127.0.0.1") -> socket.socket:
    """Connect from an address, and say nothing."""
    connection = socket.create_connection(("127.0.0.1", door.port), source_address=(address, 0))
    assert connection.recv(256).startswith(b"SSH-2.0-")
    return connection


def is_over(connection: socket.socket) -> bool:
    """Read what is left, and tell whether the server has hung up."""
    connection.settimeout(0.05)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    return True


def test_more_connections_than_there_are_places_are_told_so(start_door: StartDoor) -> None:
    door = start_door(connections=2)
    held = [door.client("alice"), door.client("bob")]
    refused = door.ssh("alice", "whoami")
    assert refused.returncode == 255
    assert b"the server has as many connections as it takes; try again in a moment" in refused.stderr
    assert held[0].open_session()
    held[1].close()
    eventually(lambda: door.ssh("alice", "whoami").stdout == b"alice\n", "the place was not given back")


def test_one_address_does_not_take_every_place(start_door: StartDoor) -> None:
    door = start_door(per_address=1)
    held = door.client("bob")
    refused = door.ssh("alice", "whoami")
    assert b"your address has 1 connections open" in refused.stderr
    # Every address of 127.0.0.0/8 is this machine's, and each is another client's to the server.
    assert door.ssh("alice", "whoami", options=["-b", "127.0.0.2"]).stdout == b"alice\n"
    held.close()


def test_strangers_who_sit_and_wait_keep_nobody_out(start_door: StartDoor) -> None:
    door = start_door(strangers=2)
    user = door.client("bob")
    silent = [stranger(door), stranger(door)]
    assert door.ssh("alice", "whoami").stdout == b"alice\n"
    eventually(lambda: is_over(silent[0]), "the first stranger was to give way")
    assert not is_over(silent[1])
    # Who has logged in counts no more, and keeps what they have.
    assert user.open_session()
    user.close()


def test_one_address_that_takes_the_strangers_places_pays_for_it_itself(start_door: StartDoor) -> None:
    door = start_door(strangers=2)
    honest = stranger(door, "127.0.0.2")
    crowd = [stranger(door, "127.0.0.3") for _ in range(4)]
    eventually(lambda: all(map(is_over, crowd[:3])), "the crowd's first were to give way")
    assert not is_over(crowd[3])
    assert not is_over(honest)


def test_a_stranger_has_to_log_in_some_day(start_door: StartDoor) -> None:
    door = start_door(login_seconds=0.5)
    silent = stranger(door)
    half = paramiko.Transport(("127.0.0.1", door.port))
    half.start_client(timeout=20)
    eventually(lambda: is_over(silent), "a silent stranger stayed")
    eventually(lambda: not half.is_active(), "a stranger who only exchanged keys stayed")
    assert door.log().count("you took too long to log in") >= 2


def test_too_many_keys_are_told_so(start_door: StartDoor) -> None:
    door = start_door(attempts=2)
    keys = []
    for number in range(4):
        keys.append(door.folder / f"id_other_{number}")
        make_key(keys[-1])
    options = [word for key in keys[1:] for word in ("-i", str(key))]
    refused = door.ssh(keys[0], "whoami", options=options)
    assert b"too many keys were offered; choose one with ssh -i FILE -o IdentitiesOnly=yes" in refused.stderr
    assert door.ssh(keys[0], "whoami", options=["-i", str(door.users["alice"])]).stdout == b"alice\n"


def test_nobody_keeps_a_connection_without_using_it(start_door: StartDoor) -> None:
    door = start_door(idle_seconds=0.5)
    bare = door.client("alice")
    unasked = door.client("alice")
    unasked.open_session()
    eventually(lambda: not bare.is_active(), "a connection without a session stayed")
    eventually(lambda: not unasked.is_active(), "a session without a request stayed")
    assert door.ssh("alice", "whoami").stdout == b"alice\n"


@pytest.mark.parametrize("sent", [b"", WHOLE[:40]], ids=["after-the-commands", "in-the-pack"])
@pytest.mark.parametrize("with_git", [True, False], ids=["git", "dulwich"])
def test_a_pusher_who_falls_silent_is_not_waited_for(start_door: StartDoor, sent: bytes, with_git: bool) -> None:
    door = start_door(idle_seconds=0.5, with_git=with_git)
    raw = RawPush(door, "alice", "shop")
    raw.commands(new("refs/heads/main", FIRST))
    raw.send(sent)
    eventually(lambda: raw.channel.closed, "the push was waited for")
    assert_sound(door, "shop")
    assert server_git(door, "shop", "for-each-ref") == ""
    eventually(lambda: "the server waited too long for your side to go on" in door.log(), "no reason was logged")


def test_a_reader_who_does_not_read_is_not_waited_for(start_door: StartDoor) -> None:
    door = start_door(idle_seconds=0.5)
    client = door.client("alice")
    channel = client.open_session(window_size=32768)
    channel.exec_command("many 100000")
    eventually(lambda: not client.is_active(), "the session waited for a reader")


def test_waiting_for_a_deploy_is_not_idle(start_door: StartDoor) -> None:
    door = start_door(idle_seconds=0.5)
    door.engine_room.hold = True
    raw = RawPush(door, "alice", "shop")
    raw.commands(new("refs/heads/main", FIRST))
    # Like most libraries, and unlike git, it does not say that there is no more to come.
    raw.send(WHOLE)
    assert door.engine_room.held.wait(30)
    bare = door.client("bob")
    eventually(lambda: not bare.is_active(), "the limit does not work")
    bare = door.client("bob")
    eventually(lambda: not bare.is_active(), "the limit does not work")
    door.engine_room.release.set()
    raw.end()
    assert raw.answer().report == ["unpack ok", "ok refs/heads/main"]


def test_a_push_of_too_many_refs(start_door: StartDoor) -> None:
    door = start_door(refs=2)
    work = workspace(door, "alice", "shop")
    work.commit()
    refused = work.git("push", "aptible", "main:a", "main:b", "main:c", ok=False)
    assert refused.returncode != 0
    assert "more than 2 refs in one push" in refused.stderr
    assert "SLIPWAY_PUSH_REFS" in refused.stderr
    assert server_git(door, "shop", "for-each-ref") == ""
    work.git("push", "aptible", "main:a", "main:b")


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.booleans(), st.integers(0, 100_000)), max_size=50),
    st.floats(1, 100),
)
def test_patience_ends_only_for_those_who_are_waited_for(looks: list[tuple[float, bool, int]], seconds: float) -> None:
    patience = Patience(seconds, 0.0)
    now, moved, waited = 0.0, 0, 0.0
    for elapsed, waiting, more in looks:
        now, moved, waited = now + elapsed, moved + more, waited + elapsed * waiting
        if patience.exhausted(now, waiting=waiting, moved=moved):
            assert waiting
            assert waited > seconds


def test_silence_and_a_trickle_both_end_it() -> None:
    for rate in (0, LEAST_BYTES_PER_SECOND // 2):
        patience = Patience(10, 0)
        ended = [now for now in range(1, 100) if patience.exhausted(now, waiting=True, moved=now * rate)]
        assert ended[0] in (11, 21)
    patience = Patience(10, 0)
    assert not any(patience.exhausted(now, waiting=True, moved=now * LEAST_BYTES_PER_SECOND) for now in range(1, 1000))


def test_places_are_counted_over_all_doors_and_a_dead_doors_come_back() -> None:
    places = Places(ConnectionLimits(connections=3, per_address=2, strangers=3), doors=2)
    first, second = places.of(0), places.of(1)
    first.take("192.0.2.1")
    second.take("192.0.2.1")
    with pytest.raises(NoPlaceError, match="your address has 2"):
        first.take("192.0.2.1")
    other = second.take("192.0.2.2")
    with pytest.raises(NoPlaceError, match="as many connections as it takes"):
        first.take("192.0.2.3")
    other.leave()
    second.take("192.0.2.3").leave()
    # The first door dies, and another begins in its place.
    again = places.of(0)
    assert len(places.taken()) == 1
    again.take("192.0.2.1")


def test_strangers_are_counted_until_they_log_in() -> None:
    places = Places(ConnectionLimits(strangers=1))
    door = places.of(0)
    place = door.take("192.0.2.1")
    with pytest.raises(TooManyStrangersError):
        door.take("192.0.2.2")
    place.settle()
    door.take("192.0.2.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    places = Places(ConnectionLimits())
    assert (places.number(one) == places.number(other)) == same


def test_each_limit_of_a_push_has_its_own_words() -> None:
    limits = PushLimits(refs=1, pack_bytes=1, objects=1, object_bytes=1, inflated_bytes=1 << 30, inflation_ratio=2)
    words = set()
    checks: list[Callable[[], None]] = [
        lambda: limits.check_refs(2),
        lambda: limits.check_pack(2),
        lambda: limits.check_objects(2),
        lambda: limits.check_object(2),
        lambda: limits.check_inflation(2 << 30, 2 << 30),
        lambda: limits.check_inflation(INFLATION_FLOOR_BYTES + 1, 1),
    ]
    for refused in checks:
        with pytest.raises(PushLimitError) as error:
            refused()
        words.add(str(error.value))
        assert "SLIPWAY_" in str(error.value)
    assert len(words) == 6
    limits.check_inflation(INFLATION_FLOOR_BYTES, 1)


def test_a_push_within_the_limits_is_none_of_their_business(door: Door) -> None:
    assert push(door, new("refs/heads/main", FIRST), data=WHOLE).report == ["unpack ok", "ok refs/heads/main"]
