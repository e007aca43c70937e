"""Packets as paramiko's own packetizer writes them, read by ours; and what an attacker would write."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.common import MSG_CHANNEL_DATA, cMSG_CHANNEL_DATA, cMSG_IGNORE
from paramiko.packet import Packetizer

from gitserver.packets import MAX_BYTES, MAX_STRANGER_BYTES, BoundedPacketizer, ChannelData


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.settimeout(20)
    far.settimeout(20)
    yield near, far
    near.close()
    far.close()


def encrypt(kind: str, sender: Packetizer, receiver: BoundedPacketizer) -> Callable[[bytes], bytes]:
    """Give both ends the same keys, and return what becomes of a packet's first bytes on the wire."""
    key, iv = os.urandom(16), os.urandom(12)
    if kind == "gcm":
        sender.set_outbound_cipher(AESGCM(key), 16, None, 16, None, aead=True, iv_out=iv)  # type: ignore[arg-type]  # as paramiko itself calls it
        receiver.set_inbound_cipher(AESGCM(key), 16, None, 16, None, aead=True, iv_in=iv)
    elif kind in ("etm", "mac of plain"):
        counter = os.urandom(16)
        out = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
        back = Cipher(algorithms.AES(key), modes.CTR(counter)).decryptor()
        sender.set_outbound_cipher(out, 16, hashlib.sha256, 32, key * 2, sdctr=True, etm=kind == "etm")  # type: ignore[arg-type]  # as paramiko itself calls it
        receiver.set_inbound_cipher(back, 16, hashlib.sha256, 32, key * 2, etm=kind == "etm")
        if kind == "mac of plain":
            return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update
    return bytes


def message(data: bytes) -> paramiko.Message:
    made = paramiko.Message()
    made.add_byte(cMSG_CHANNEL_DATA)
    made.add_int(7)
    made.add_string(data)
    return made


@pytest.mark.parametrize("kind", ["plain", "gcm", "etm", "mac of plain"])
def test_packets_of_every_size_come_back(pair: tuple[socket.socket, socket.socket], kind: str) -> None:
    near, far = pair
    sender, receiver = Packetizer(near), BoundedPacketizer(far)
    encrypt(kind, sender, receiver)
    receiver.trust()
    sizes = [0, 1, 2, 3, 100, 16_384, 32_768, 100_000, 200_000, 5, 260_000 - 2_000, 1] * 4
    sent = [os.urandom(size) for size in sizes]

    def write() -> None:
        for data in sent:
            sender.send_message(message(data))

    writer = threading.Thread(target=write)
    writer.start()
    for number, data in enumerate(sent):
        code, read = receiver.read_message()
        assert code == MSG_CHANNEL_DATA
        assert isinstance(read, ChannelData)
        assert read.seqno == number
        assert read.get_int() == 7
        assert read.data() == data
    writer.join()


@pytest.mark.parametrize("kind", ["plain", "gcm", "etm", "mac of plain"])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_length_beyond_the_bound_ends_it_before_it_comes(
    pair: tuple[socket.socket, socket.socket], kind: str, trusted: bool
) -> None:
    near, far = pair
    receiver = BoundedPacketizer(far)
    on_the_wire = encrypt(kind, Packetizer(near), receiver)
    if trusted:
        receiver.trust()
    near.sendall(on_the_wire(((MAX_BYTES if trusted else MAX_STRANGER_BYTES) + 1).to_bytes(4) + bytes(12)))
    with pytest.raises(paramiko.SSHException, match="is the most"):
        receiver.read_message()


@pytest.mark.parametrize("size", [0, 1, 5, 11])
def test_a_length_below_the_shortest_ends_it(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    pair[0].sendall(size.to_bytes(4) + bytes(64))
    with pytest.raises(paramiko.SSHException):
        BoundedPacketizer(pair[1]).read_message()


@pytest.mark.parametrize("padding", [11, 12, 200, 255])
def test_padding_that_leaves_no_message_ends_it(pair: tuple[socket.socket, socket.socket], padding: int) -> None:
    pair[0].sendall((12).to_bytes(4) + bytes([padding]) + bytes(11))
    with pytest.raises(paramiko.SSHException):
        BoundedPacketizer(pair[1]).read_message()


@pytest.mark.parametrize("kind", ["gcm", "etm", "mac of plain"])
@pytest.mark.parametrize("place", [4, 20, -1])
def test_a_packet_that_was_changed_ends_it(pair: tuple[socket.socket, socket.socket], kind: str, place: int) -> None:
    near, far = pair
    tap, end = socket.socketpair()
    sender, receiver = Packetizer(tap), BoundedPacketizer(far)
    encrypt(kind, sender, receiver)
    sender.send_message(message(b"harmless"))
    data = bytearray(end.recv(1 << 16))
    data[place] ^= 1
    near.sendall(data)
    with pytest.raises(paramiko.SSHException, match="changed"):
        receiver.read_message()
    tap.close()
    end.close()


def test_lines_before_the_first_packet_may_come_with_it(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    tap, end = socket.socketpair()
    ignored = paramiko.Message()
    ignored.add_byte(cMSG_IGNORE)
    ignored.add_string(b"x")
    Packetizer(tap).send_message(ignored)
    near.sendall(b"some prelude\r\nSSH-2.0-client\r\n" + end.recv(1 << 16))
    receiver = BoundedPacketizer(far)
    assert receiver.readline(5) == "some prelude"
    assert receiver.readline(5) == "SSH-2.0-client"
    assert receiver.read_message()[0] == ord(cMSG_IGNORE)
    tap.close()
    end.close()


def test_closing_wakes_whoever_reads(pair: tuple[socket.socket, socket.socket]) -> None:
    receiver = BoundedPacketizer(pair[1])
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(EOFError):
            receiver.read_message()
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    receiver.close()
    reader.join(10)
    assert ended.is_set()
