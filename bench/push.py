"""The whole of `git push` to released, beside a server that somebody wrote by hand: `python -m bench.push`.

The other one is OpenSSH, a bare repository and a post-receive hook with `git archive | docker build -` and
`docker run`, on the same engine and from the same Dockerfile; they take turns. It waits for nothing once the container
is started, while slipway goes on until the app answers and is routed to, and never leaves it without an answer. Also
measured: how long a line that a RUN prints takes to the pusher's terminal.

Uses the engine that DOCKER_HOST names, else one of its own (as root). Needs openssh-server and the docker command.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import docker

from bench.endpoints import OpenSsh, git_environment
from demo import base_image
from demo.engine import answering, private_engine
from demo.person import HOST, Person
from demo.server import Server

ROUNDS = 7
FILES, FILE_BYTES = 2_000, 10_000
"""An app of 20 MB: its code, and the pictures and fonts that it serves."""
MOST_CHANGED, MOST_UNCHANGED = 0.7, 0.3
"""Times the hand-written server."""
LINES = 60
MOST_MEDIAN_MS, MOST_P90_MS = 10.0, 50.0

APP = b"""\
import http.server, signal, sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""
DOCKERFILE = """\
FROM {base}
WORKDIR /app
COPY requirements.txt .
RUN sort requirements.txt > installed.txt
COPY . .
RUN python3 -m compileall -q .
EXPOSE 8080
CMD ["python3", "server.py"]
"""
HOOK = """\
#!/bin/sh
set -e
while read old new ref; do
    git archive "$new" | {docker} build --tag {name} -
    {docker} rm --force {name} > /dev/null 2>&1 || true
    {docker} run --detach --name {name} --publish 127.0.0.1::8080 {name}
done
"""
TICKING = """\
FROM {base}
RUN i=0; while [ $i -lt {lines} ]; do date +tick-%s.%N; sleep 0.05; i=$((i + 1)); done
CMD ["python3", "-m", "http.server", "8080"]
EXPOSE 8080
"""


class Side:
    """One of the two servers: a working copy whose `push` ends when the new version is released."""

    def __init__(self, folder: Path, environment: dict[str, str], url: str, dockerfile: str) -> None:
        self.folder = folder
        self._environment = environment
        self._changes = 0
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=master")
        self.git("remote", "add", "server", url)
        chance = random.Random(1)
        for number in range(FILES):
            path = folder / f"static{number % 20}" / f"file{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(chance.randbytes(FILE_BYTES))
        (folder / "requirements.txt").write_text("one\ntwo\n")
        (folder / "server.py").write_bytes(APP)
        (folder / "Dockerfile").write_text(dockerfile)
        self.change()
        self.push()

    def git(self, *words: str) -> str:
        """Run git in the working copy."""
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"git {' '.join(words)}: {done.stderr}")
        return done.stderr

    def change(self) -> None:
        """Commit another version of one module."""
        self._changes += 1
        (self.folder / "version.py").write_text(f"VERSION = {self._changes}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Change")

    def leave(self) -> None:
        """Commit the very same tree."""
        self.git("commit", "--quiet", "--allow-empty", "--message", "The same")

    def push(self) -> float:
        """Push, and return the seconds until it has ended."""
        begun = time.perf_counter()
        self.git("push", "--quiet", "server", "master")
        return time.perf_counter() - begun


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.push", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pushes of each kind (default %(default)s)")
    parser.add_argument("--builder", default="auto", help="SLIPWAY_BUILDER (default %(default)s)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        engine = answering() or stack.enter_context(private_engine(folder / "engine"))
        client = stack.enter_context(closing(docker.DockerClient(engine)))
        name = f"slipway-bench-{uuid.uuid4().hex[:8]}"
        base = f"{name}:base"
        base_image.import_base_image(engine, base, base_image.PYTHON)
        stack.callback(_remove_images, client, name)
        person = _slipway(stack, folder, engine, base, options.builder)
        ours = Side(folder / "ours", person.environment, f"{HOST}:ours.git", DOCKERFILE.format(base=base))
        theirs = _by_hand(stack, folder, engine, name, DOCKERFILE.format(base=base))
        machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Docker {client.version()['Version']}"
        print(f"{machine}; builder {options.builder}; {FILES} files, {FILES * FILE_BYTES / 1e6:.0f} MB; medians\n")
        print("| git push, ms | by hand | slipway | ratio | to reach |\n|---|---|---|---|---|")
        failed = False
        for what, prepare, most in (
            ("a changed file", Side.change, MOST_CHANGED),
            ("the same tree again", Side.leave, MOST_UNCHANGED),
        ):
            by_hand, by_slipway = _in_turn(prepare, [theirs, ours], options.rounds)
            ratio = by_slipway / by_hand
            failed |= ratio > most
            print(f"| {what} | {by_hand * 1000:.0f} | {by_slipway * 1000:.0f} | {ratio:.2f} | {most} |", flush=True)
        median, p90 = _line_latency(folder, person, base)
        failed |= median > MOST_MEDIAN_MS or p90 > MOST_P90_MS
        print(f"\nA line from RUN to the pusher: median {median:.1f} ms, p90 {p90:.1f} ms, of {LINES}")
    sys.exit(failed)


def _slipway(stack: ExitStack, folder: Path, engine: str, base: str, builder: str) -> Person:
    server = Server(folder / "data", engine, {"SLIPWAY_LOCAL_IMAGES": base, "SLIPWAY_BUILDER": builder})
    admin = Person(folder / "admin", "admin")
    server.init(admin)
    stack.callback(server.down)
    server.start()
    server.introduce(admin)
    for app in ("ours", "ticking"):
        admin.ssh("apps:create", app)
    return admin


def _by_hand(stack: ExitStack, folder: Path, engine: str, name: str, dockerfile: str) -> Side:
    sshd = OpenSsh(folder / "sshd", "OpenSSH")
    sshd.start()
    stack.callback(sshd.stop)
    repository = sshd.repository("app")
    command = f"DOCKER_HOST={engine} {shutil.which('docker')}"
    hook = repository / "hooks" / "post-receive"
    hook.write_text(HOOK.format(docker=command, name=name))
    hook.chmod(0o755)
    stack.callback(subprocess.run, ["sh", "-c", f"{command} rm --force {name}"], check=False, capture_output=True)
    environment = git_environment() | sshd.environment()
    return Side(folder / "theirs", environment, sshd.url(repository), dockerfile)


def _in_turn(prepare: Callable[[Side], None], sides: list[Side], rounds: int) -> list[float]:
    timings: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, timing in zip(sides, timings, strict=True):
            prepare(side)
            timing.append(side.push())
    return [statistics.median(timing) for timing in timings]


def _line_latency(folder: Path, person: Person, base: str) -> tuple[float, float]:
    """Return median and 90th percentile, in milliseconds. Both clocks are this machine's."""
    copy = folder / "ticking"
    copy.mkdir()
    (copy / "Dockerfile").write_text(TICKING.format(base=base, lines=LINES))
    for words in (
        ["init", "--quiet", "--initial-branch=master"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "Tick"],
    ):
        subprocess.run(["git", *words], cwd=copy, env=person.environment, check=True)
    late = []
    words = ["git", "push", f"{HOST}:ticking.git", "master"]
    with subprocess.Popen(words, cwd=copy, env=person.environment, stderr=subprocess.PIPE) as push:
        assert push.stderr is not None
        for line in push.stderr:
            if tick := re.search(rb"tick-([0-9]+\.[0-9]+)\s*\Z", line):
                late.append((time.time() - float(tick[1])) * 1000)
    if len(late) != LINES:
        raise RuntimeError(f"{len(late)} of {LINES} lines came")
    return statistics.median(late), statistics.quantiles(late, n=10)[-1]


def _remove_images(client: docker.DockerClient, name: str) -> None:
    for image in client.images.list(name):
        for tag in image.tags:
            client.images.remove(tag, force=True)


if __name__ == "__main__":
    main()
