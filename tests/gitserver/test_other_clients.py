"""The door as independent programs see it: asyncssh, a second SSH client, and ssh-audit, a critic of servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import asyncssh
import pytest

from hooks.pre_receive import ZERO
from tests.gitserver.conftest import Door, server_git
from tests.gitserver.test_receive_pack import FIRST, WHOLE

QUANTUM = "does not provide protection against post-quantum attacks"
EXPLAINED = {f"kex {name}": {QUANTUM} for name in ("curve25519-sha256", "curve25519-sha256@libssh.org")}
"""What ssh-audit warns of and we keep: OpenSSH before 9.9 has no ML-KEM, and OpenSSH's other post-quantum method,
sntrup761, is in neither paramiko nor the cryptography library. Clients that have ML-KEM prefer it."""


def connected(door: Door, user: str, ask: Callable[[asyncssh.SSHClientConnection], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncssh.connect(
            "127.0.0.1",
            door.port,
            username="git",
            client_keys=[str(door.users[user])],
            known_hosts=str(door.folder / "known_hosts"),
            config=None,
            agent_path=None,
        ) as connection:
            await ask(connection)

    asyncio.run(main())


def test_asyncssh_runs_commands_side_by_side(door: Door) -> None:
    async def ask(connection: asyncssh.SSHClientConnection) -> None:
        answers = await asyncio.gather(*(connection.run("whoami") for _ in range(5)))
        assert [(answer.stdout, answer.exit_status) for answer in answers] == [("alice\n", 0)] * 5
        failed = await connection.run("nonsense")
        assert (failed.exit_status, failed.stderr) == (2, "the details\n'nonsense' is not a command\n")
        assert (await connection.run("config:set -", input="A=1\n")).stdout == "4 characters\n"

    connected(door, "alice", ask)


def test_asyncssh_pushes(door: Door) -> None:
    async def ask(connection: asyncssh.SSHClientConnection) -> None:
        process = await connection.create_process("git-receive-pack 'shop.git'", encoding=None)
        while (size := int(await process.stdout.readexactly(4), 16)) != 0:
            await process.stdout.readexactly(size - 4)
        line = f"{ZERO} {FIRST.id.decode()} refs/heads/stored\0 report-status".encode()
        process.stdin.write(f"{len(line) + 4:04x}".encode() + line + b"0000" + WHOLE)
        report = await process.stdout.read()
        assert b"unpack ok" in report
        assert b"ok refs/heads/stored" in report
        await process.wait()
        assert process.exit_status == 0

    connected(door, "alice", ask)
    assert server_git(door, "shop", "rev-parse", "stored") == FIRST.id.decode()


def test_asyncssh_is_refused_what_openssh_is(door: Door) -> None:
    async def ask(connection: asyncssh.SSHClientConnection) -> None:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", door.port)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", door.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()

    connected(door, "alice", ask)


def test_asyncssh_may_exchange_keys_again(door: Door) -> None:
    async def ask() -> None:
        async with asyncssh.connect(
            "127.0.0.1",
            door.port,
            client_keys=[str(door.users["alice"])],
            known_hosts=str(door.folder / "known_hosts"),
            config=None,
            agent_path=None,
            rekey_bytes=20_000,
        ) as connection:
            answer = await connection.run("many 20000")
            assert str(answer.stdout).endswith("line 19999\n")

    asyncio.run(ask())


def audited(door: Door) -> dict[str, set[str]]:
    """Return what ssh-audit warns of, or calls a failure, by algorithm."""
    words = [sys.executable, "-m", "ssh_audit.ssh_audit", "-j", "--skip-rate-test", "-p", str(door.port), "127.0.0.1"]
    audit = json.loads(subprocess.run(words, capture_output=True, text=True, timeout=120, check=False).stdout)
    assert audit["cves"] == []
    found = {
        f"{kind} {algorithm['algorithm']}": {*algorithm["notes"].get("warn", ()), *algorithm["notes"].get("fail", ())}
        for kind in ("kex", "key", "enc", "mac")
        for algorithm in audit[kind]
    }
    assert len(found) > 5
    return {name: notes for name, notes in found.items() if notes}


def test_ssh_audit_finds_nothing_but_what_is_explained(door: Door) -> None:
    assert audited(door) == EXPLAINED


def test_ssh_audit_finds_nothing_where_key_exchange_has_to_be_post_quantum(start_door: Callable[..., Door]) -> None:
    door = start_door(post_quantum=True)
    assert audited(door) == {}
    # A client of today comes in, and one of yesterday does not.
    client = door.client("alice")
    assert client.is_authenticated()
    client.close()
    old = ("-o", "KexAlgorithms=curve25519-sha256")
    refused = door.ssh("alice", "whoami", options=old)
    assert refused.returncode == 255
    assert b"no matching key exchange method found" in refused.stderr
