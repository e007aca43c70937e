"""What SSH clients of any kind meet at the door."""

from __future__ import annotations

import os
import pty
import queue
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
import pytest
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_PK_OK,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_REQUEST,
)

from gitserver import host_key
from gitserver.packets import MAX_STRANGER_BYTES
from tests.gitserver.conftest import Door, eventually, make_key


def test_without_a_command_the_server_says_who_you_are(door: Door) -> None:
    greeted = door.ssh("alice", options=["-T"])
    assert greeted.returncode == 0
    assert greeted.stdout.startswith(b"Hello alice, your key works.")
    assert b"git push" in greeted.stdout
    assert b"\r" not in greeted.stdout
    assert greeted.stderr == b""


def test_a_terminal_is_greeted_without_a_complaint(door: Door) -> None:
    controller, terminal = pty.openpty()
    words = [*door.ssh_words("alice"), "-tt", "git@127.0.0.1"]
    done = subprocess.run(words, stdin=terminal, capture_output=True, timeout=60, check=False)
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 0
    assert done.stdout.startswith(b"Hello alice")
    assert done.stdout.count(b"\r\n") == done.stdout.count(b"\n") == 3
    assert b"PTY" not in done.stderr


def test_the_user_name_does_not_matter(door: Door) -> None:
    words = [*door.ssh_words("alice"), "whatever@127.0.0.1", "whoami"]
    assert subprocess.run(words, capture_output=True, timeout=60, check=False).stdout == b"alice\n"


def test_an_unknown_key_is_refused(door: Door) -> None:
    stranger = door.folder / "id_stranger"
    make_key(stranger)
    refused = door.ssh(stranger, "whoami")
    assert refused.returncode == 255
    assert b"Permission denied (publickey)" in refused.stderr


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_kinds_of_keys_work(door: Door, kind: str) -> None:
    path = door.folder / f"id_{kind}"
    door.engine_room.keys[make_key(path, kind)] = "bob"
    assert door.ssh(path, "whoami").stdout == b"bob\n"


def test_a_key_of_an_unsupported_kind_does_not_cost_the_next_one_its_turn(door: Door) -> None:
    dsa = door.folder / "id_dsa"
    make_key(dsa, "dsa")
    options = ["-o", "PubkeyAcceptedAlgorithms=+ssh-dss", "-i", str(dsa)]
    # Named first, it is offered first; the client would not offer it at all to a server that lists what it takes.
    words = ["ssh", *options, *door.ssh_words("alice")[1:], "-v", "git@127.0.0.1", "whoami"]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.stdout == b"alice\n"
    with RawClient(door) as client:
        blob = paramiko.Message()
        blob.add_string("ssh-dss")
        blob.add_string(b"\x01" * 20)
        assert not offer(client, "ssh-dss", blob.asbytes())
        assert not offer(client, "sk-ssh-ed25519@openssh.com", b"\0\0\0\1x")
        assert not offer(client, "ssh-ed25519", b"garbage")
        client.auth_publickey("git", paramiko.Ed25519Key(filename=str(door.users["alice"])))
        assert run(client, "whoami") == b"alice\n"


def test_asking_about_a_victims_key_gives_nobody_their_identity(door: Door) -> None:
    """Bob asks whether Alice's public key would do, unsigned, and then authenticates with his own key."""
    alice = paramiko.Ed25519Key(filename=str(door.users["alice"]))
    bob = paramiko.Ed25519Key(filename=str(door.users["bob"]))
    with RawClient(door) as client:
        assert offer(client, "ssh-ed25519", alice.asbytes())
        client.auth_publickey("git", bob)
        assert run(client, "whoami") == b"bob\n"


def test_a_signature_by_another_key_is_refused(door: Door) -> None:
    class Impostor(paramiko.Ed25519Key):
        """Shows Alice's public key and signs with Bob's."""

        def asbytes(self) -> bytes:
            return paramiko.Ed25519Key(filename=str(door.users["alice"])).asbytes()

    with RawClient(door) as client, pytest.raises(paramiko.AuthenticationException):
        client.auth_publickey("git", Impostor(filename=str(door.users["bob"])))


def test_sessions_need_authentication(door: Door) -> None:
    with RawClient(door) as client, pytest.raises(paramiko.ChannelException):
        client.open_session()


def test_nothing_is_forwarded(door: Door) -> None:
    client = door.client("alice")
    with pytest.raises(paramiko.ChannelException):
        client.open_channel("direct-tcpip", ("127.0.0.1", door.port), ("127.0.0.1", 1))
    with pytest.raises(paramiko.SSHException):
        client.request_port_forward("127.0.0.1", 0)
    channel = client.open_session()
    with pytest.raises(paramiko.SSHException):
        channel.invoke_subsystem("sftp")
    client.close()


def test_a_stranger_cannot_make_the_server_hold_a_huge_packet(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port)) as stranger:
        stranger.sendall(b"SSH-2.0-stranger\r\n" + struct.pack(">IB", (200 << 20) + 4, 4))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_without_end(stranger, b"\0" * MAX_STRANGER_BYTES)
    eventually(lambda: f"where {MAX_STRANGER_BYTES} is the most" in door.log(), "the packet was not refused")


def test_a_stranger_cannot_send_an_endless_first_line(door: Door) -> None:
    stranger = socket.create_connection(("127.0.0.1", door.port))
    with stranger, pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_without_end(stranger, b"x" * 1024)
    assert door.ssh("alice", "whoami").returncode == 0


def test_when_the_engine_room_is_away_nobody_is_told_that_their_key_is_wrong(door: Door) -> None:
    door.engine_room.stop()
    refused = door.ssh("alice", "whoami")
    assert refused.returncode == 255
    assert b"engine room does not answer" in refused.stderr
    assert b"Permission denied" not in refused.stderr
    door.engine_room.start()
    assert door.ssh("alice", "whoami").stdout == b"alice\n"


def test_several_sessions_share_a_connection_up_to_a_limit(door: Door) -> None:
    client = door.client("alice")
    assert [run(client, "whoami") for _ in range(15)] == [b"alice\n"] * 15
    channels = [client.open_session() for _ in range(10)]
    with pytest.raises(paramiko.ChannelException):
        client.open_session()
    for channel in channels:
        channel.close()
    client.close()


def test_the_host_key_is_made_once_and_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "key"
    fingerprint = host_key.make_or_load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert host_key.make_or_load(path) == fingerprint
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert shown.split()[1] == fingerprint
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
    path.write_text("nonsense")
    with pytest.raises(host_key.HostKeyError, match="not an unencrypted Ed25519 key"):
        host_key.make_or_load(path)


@pytest.mark.parametrize("digest", ["hmac-sha2-256", "hmac-sha2-512"])
def test_old_libssh2_is_offered_what_it_knows_and_nobody_else_is(door: Door, digest: str) -> None:
    for name, works in (("SSH-2.0-libssh2_1.10.0", True), ("SSH-2.0-libssh2_1.11.0", False), ("SSH-2.0-any", False)):
        client = paramiko.Transport(("127.0.0.1", door.port))
        client.local_version = name
        client.get_security_options().ciphers = ("aes256-ctr",)
        client.get_security_options().digests = (digest,)
        if works:
            client.connect(username="git", pkey=paramiko.Ed25519Key(filename=str(door.users["alice"])))
            assert run(client, "whoami") == b"alice\n"
            assert run(client, "many 2000").endswith(b"line 1999\n")
        else:
            with pytest.raises(paramiko.SSHException):
                client.start_client(timeout=20)
        client.close()


class RawClient(paramiko.Transport):
    """A client that has shaken hands and says nothing of its own accord."""

    def __init__(self, door: Door) -> None:
        super().__init__(("127.0.0.1", door.port))
        self.start_client(timeout=20)


class Asking(AuthHandler):
    """The client's side of asking about a public key without a signature (RFC 4252, section 7)."""

    if TYPE_CHECKING:
        transport: Any

    def __init__(self, transport: paramiko.Transport, algorithm: str, blob: bytes) -> None:
        super().__init__(transport)
        self.answer: queue.Queue[bool] = queue.Queue()
        self._question = ("git", "ssh-connection", "publickey", False, algorithm, blob)

    @property
    def _handler_table(self) -> dict[int, Callable[[paramiko.Message], None]]:
        return {
            MSG_SERVICE_ACCEPT: self._ask,
            MSG_USERAUTH_PK_OK: lambda _: self.answer.put(True),
            MSG_USERAUTH_FAILURE: lambda _: self.answer.put(False),
        }

    def _ask(self, _: paramiko.Message) -> None:
        message = paramiko.Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        message.add(*self._question)
        self.transport._send_message(message)


def offer(client: Any, algorithm: str, blob: bytes) -> bool:
    """Ask about a public key; tell whether the server would take it."""
    client.auth_handler = asking = Asking(client, algorithm, blob)
    request = paramiko.Message()
    request.add_byte(cMSG_SERVICE_REQUEST)
    request.add_string("ssh-userauth")
    client._send_message(request)
    return asking.answer.get(timeout=20)


def send_without_end(stranger: socket.socket, chunk: bytes) -> None:
    while True:
        stranger.sendall(chunk)


def run(client: paramiko.Transport, command: str) -> bytes:
    with client.open_session() as channel:
        channel.exec_command(command)
        output = channel.makefile("rb").read()
        assert channel.recv_exit_status() == 0
        return bytes(output)
