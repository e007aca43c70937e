"""What the server holds in memory, as proportional set size (proc(5), smaps_rollup): shared pages count once."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

from bench import histories
from bench.cases import Work, push
from bench.endpoints import Slipway

SAMPLE_SECONDS = 0.02
"""How often memory is looked at: a peak that is shorter than this may be missed."""


USES = 20
SETTLE_SECONDS = 2.0


def measure(work: Work, server: Slipway) -> str:
    """Return a table of memory figures: idle, and the most while each push runs."""
    assert server.process is not None
    # Idle is not new: what each process touches when it is first used, it keeps.
    for _ in range(USES):
        subprocess.run([*server.ssh(), "whoami"], check=True, capture_output=True)
    time.sleep(SETTLE_SECONDS)
    idle_doors, idle_all = pss(server.process.pid)
    lines = [
        "\n| memory, MB | front doors with their Git programs | more than idle | to reach |",
        "|---|---|---|---|",
        f"| idle | {idle_doors:.0f} | | 45 |",
        f"| idle, the whole server | {idle_all:.0f} | | 150 |",
    ]
    bomb = work.made("bomb", lambda draft: _make_bomb(draft, 1 << 30))
    cases = [
        ("one commit", work.small, work.small_commits[0]),
        ("100,000 objects", work.large, "main"),
        ("300 MB blob", work.blob(300), "main"),
        ("1 MB that inflates to 1 GB", bomb, "main"),
    ]
    for number, (title, source, commit) in enumerate(cases):
        repository = server.repository(f"memory-{number}")
        peak = _Peak(server.process.pid)
        done = subprocess.run(
            push(source, server.url(repository), commit), env=server.environment(), capture_output=True, check=False
        )
        most = peak.stop()
        refused = "" if done.returncode == 0 else f" (refused: {_reason(done.stderr.decode())})"
        lines.append(f"| {title}{refused} | {most:.0f} | {most - idle_doors:.0f} | 40 |")
    return "\n".join(lines)


def _reason(errors: str) -> str:
    """Return the first line of what git says about a push that was refused."""
    return errors.partition("\n")[0].rpartition("unpack failed: ")[2]


class _Peak:
    """Looks at the memory again and again until it is stopped."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._most = max(self._most, pss(self._process)[0])

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._most


def pss(supervisor: int) -> tuple[float, float]:
    """Return megabytes of the front doors and their children, and of the whole server."""
    doors = whole = 0.0
    waiting = [(supervisor, False)]
    while waiting:
        process, in_door = waiting.pop()
        with suppress(OSError):
            in_door = in_door or Path(f"/proc/{process}/comm").read_text().startswith("slipway-front")
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            size = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024
            whole += size
            doors += size if in_door else 0
        with suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += [(int(child), in_door) for child in (task / "children").read_text().split()]
    return doors, whole


def _make_bomb(folder: Path, size: int) -> None:
    """Make a repository with a blob of zeros, whose pack is a thousandth of it."""
    histories.init(folder)
    zeros = bytes(1 << 20)
    packer = zlib.compressobj(9)
    digest = hashlib.sha1(b"blob %d\0" % size)
    packed = bytearray()
    for _ in range(size >> 20):
        digest.update(zeros)
        packed += packer.compress(zeros)
    packed += packer.flush()
    rest, head = size >> 4, 3 << 4 | size & 15
    header = bytearray()
    while rest:
        header.append(head | 128)
        rest, head = rest >> 7, rest & 127
    header.append(head)
    pack = b"PACK" + struct.pack(">II", 2, 1) + header + packed
    histories.git(folder, "index-pack", "--stdin", stdin=pack + hashlib.sha1(pack).digest())
    tree = histories.git(folder, "mktree", stdin=f"100644 blob {digest.hexdigest()}\tzeros\n".encode())
    commit = histories.git(folder, "commit-tree", tree, "-m", "zeros")
    histories.git(folder, "update-ref", "refs/heads/main", commit)
