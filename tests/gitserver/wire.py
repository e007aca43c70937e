"""Speaking to receive-pack byte by byte, to say what no Git client would."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

import paramiko
from dulwich.objects import Blob, Commit, ShaFile, Tree
from dulwich.protocol import ReceivableProtocol, pkt_line

from hooks.pre_receive import ZERO
from tests.gitserver.conftest import Door


def blob(data: bytes) -> Blob:
    return Blob.from_string(data)


def tree(**entries: ShaFile) -> Tree:
    made = Tree()
    for name, entry in entries.items():
        made.add(name.encode(), 0o40000 if isinstance(entry, Tree) else 0o100644, entry.id)
    return made


def commit(content: Tree, *parents: Commit, message: bytes = b"message\n") -> Commit:
    made = Commit()
    made.tree = content.id
    made.parents = [parent.id for parent in parents]
    made.author = made.committer = b"Some One <someone@example.net>"
    made.author_time = made.commit_time = 1_700_000_000
    made.author_timezone = made.commit_timezone = 0
    made.message = message
    return made


def pack(*objects: ShaFile, count: int | None = None) -> bytes:
    """Return a pack of whole objects, or one that lies about how many there are (gitformat-pack(5))."""
    data = b"PACK" + struct.pack(">II", 2, len(objects) if count is None else count)
    for item in objects:
        raw = item.as_raw_string()
        size, head = len(raw) >> 4, item.type_num << 4 | len(raw) & 15
        while size:
            data += bytes([head | 128])
            size, head = size >> 7, size & 127
        data += bytes([head]) + zlib.compress(raw)
    return data + hashlib.sha1(data).digest()


@dataclass
class Answer:
    """What a push was told."""

    refs: dict[str, str]
    capabilities: set[str]
    report: list[str]
    progress: str
    errors: str
    status: int


class RawPush:
    """One push over an SSH channel."""

    def __init__(self, door: Door, user: str, app: str) -> None:
        self._transport = door.client(user)
        self.channel: paramiko.Channel = self._transport.open_session()
        self.channel.exec_command(f"git-receive-pack '{app}.git'")
        self._discover()

    def reads(self, text: bytes, seconds: float) -> bool:
        """Read until `text` has come, and tell whether it does within some seconds; what is read is gone."""
        data = b""
        self.channel.settimeout(seconds)
        try:
            while text not in data and (more := self.channel.recv(1 << 16)):
                data += more
        except TimeoutError:
            pass
        self.channel.settimeout(60)
        return text in data

    @property
    def packets(self) -> int:
        """SSH packets that have come on the connection, those of logging in included."""
        return int(vars(self._transport.packetizer)["_Packetizer__received_packets"])

    def _discover(self) -> None:
        self.protocol = ReceivableProtocol(self.channel.recv, self.channel.sendall)
        self.refs: dict[str, str] = {}
        self.capabilities: set[str] = set()
        while (line := self.protocol.read_pkt_line()) is not None:
            text, _, words = line.decode().rstrip("\n").partition("\0")
            self.capabilities |= set(words.split())
            self.refs[text.partition(" ")[2]] = text.partition(" ")[0]

    def commands(self, *updates: tuple[str, str, str], capabilities: str = "report-status side-band-64k") -> None:
        for number, (ref, old, new) in enumerate(updates):
            words = f"\0 {capabilities}" if number == 0 else ""
            self.protocol.write_pkt_line(f"{old} {new} {ref}{words}".encode())
        self.protocol.write_pkt_line(None)

    def send(self, data: bytes) -> None:
        self.channel.sendall(data)

    def end(self) -> None:
        self.channel.shutdown_write()

    def vanish(self) -> None:
        """Break the TCP connection off."""
        self._transport.sock.close()

    def answer(self) -> Answer:
        """Read everything to the end, side band or not."""
        data, progress = b"", b""
        output = self.channel.makefile("rb").read()
        while output:
            size = int(output[:4], 16)
            body, output = output[4 : max(size, 4)], output[max(size, 4) :]
            if body[:1] == b"\1":
                data += body[1:]
            elif body[:1] == b"\2":
                progress += body[1:]
            elif body:
                data += pkt_line(body)
        report = []
        while data and (size := int(data[:4], 16)):
            report.append(data[4:size].decode().rstrip("\n"))
            data = data[size:]
        errors = self.channel.makefile_stderr("rb").read().decode()
        status = self.channel.recv_exit_status()
        self._transport.close()
        return Answer(self.refs, self.capabilities, report, progress.decode(), errors, status)


def push(
    door: Door, *updates: tuple[str, str, str], data: bytes = b"", capabilities: str = "report-status side-band-64k"
) -> Answer:
    """Push to Alice's app `shop` all at once."""
    raw = RawPush(door, "alice", "shop")
    raw.commands(*updates, capabilities=capabilities)
    raw.send(data)
    raw.end()
    return raw.answer()


def new(ref: str, item: ShaFile) -> tuple[str, str, str]:
    return ref, ZERO, item.id.decode()
