"""Many pushes in a short time, to bring a repository to where a case begins: on one connection, a session for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko
from dulwich.object_format import SHA1
from dulwich.objects import Blob, Commit, ShaFile, Tree
from dulwich.pack import write_pack_objects
from dulwich.protocol import ReceivableProtocol

from bench.endpoints import OpenSsh, Slipway


def many_pushes(server: Slipway | OpenSsh, repository: Path, first: int, last: int) -> None:
    """Push small commits, the numbers `first` to `last`, each in a push of its own, to a branch beside others."""
    transport = paramiko.Transport(("127.0.0.1", server.port))
    transport.connect(username=server.user, pkey=paramiko.Ed25519Key(filename=str(server.key)))
    path = server.url(repository).partition(str(server.port))[2]
    old = "0" * 40
    tip: Commit | None = None
    for number in range(first, last):
        objects = list(_commit(number, tip))
        tip = next(item for item in objects if isinstance(item, Commit))
        channel = transport.open_session()
        channel.exec_command(f"git-receive-pack '{path}'")
        protocol = ReceivableProtocol(channel.recv, channel.sendall)
        while protocol.read_pkt_line() is not None:
            pass
        ref = f"refs/heads/grown-{first}"
        protocol.write_pkt_line(f"{old} {tip.id.decode()} {ref}\0report-status".encode())
        protocol.write_pkt_line(None)
        write_pack_objects(channel.sendall, [(item, None) for item in objects], SHA1)
        channel.shutdown_write()
        report = channel.makefile("rb").read()
        if b"ok refs/heads" not in report:
            raise RuntimeError(f"a push to {server.name} was refused: {report.decode(errors='replace')}")
        channel.close()
        old = tip.id.decode()
    transport.close()


def _commit(number: int, parent: Commit | None) -> Iterator[ShaFile]:
    file = Blob.from_string(b"number %d\n" % number)
    tree = Tree()
    tree.add(b"file", 0o100644, file.id)
    made = Commit()
    made.tree, made.parents = tree.id, [parent.id] if parent else []
    made.author = made.committer = b"Bench <bench@localhost>"
    made.author_time = made.commit_time = 1_600_000_000 + number
    made.author_timezone = made.commit_timezone = 0
    made.message = b"change\n"
    yield from (file, tree, made)
