"""A rollback, from Enter to the prompt: `python -m bench.rollback`.

Two releases of a small app, and `ssh … rollback` from one to the other and back, by a real client. What the app itself
takes, from the start of its process to its first answer, is read off the same containers and told apart.

Uses the engine that DOCKER_HOST names, else one of its own (as root).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import docker

from demo import base_image
from demo.engine import answering, private_engine
from demo.person import HOST, Person
from demo.server import Server

ROUNDS = 10
MOST_SECONDS = 1.5
"""Beyond what the app itself takes."""

APP = b"""\
import datetime, http.server, signal, sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

server = http.server.ThreadingHTTPServer(("", 8080), Handler)
print("listens", datetime.datetime.now(datetime.UTC).isoformat(), flush=True)
server.serve_forever()
"""
DOCKERFILE = """\
FROM {base}
WORKDIR /app
COPY . .
EXPOSE 8080
CMD ["python3", "server.py"]
"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollback", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rollbacks (default %(default)s)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        engine = answering() or stack.enter_context(private_engine(folder / "engine"))
        client = stack.enter_context(closing(docker.DockerClient(engine)))
        base = f"slipway-bench-{uuid.uuid4().hex[:8]}:base"
        base_image.import_base_image(engine, base, base_image.PYTHON)
        stack.callback(client.images.remove, base, force=True)
        admin = _two_releases(stack, folder, engine, base)
        whole, own = [], []
        for _ in range(options.rounds):
            begun = time.perf_counter()
            done = admin.ssh("rollback", "--app", "shop")
            whole.append(time.perf_counter() - begun)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
            own.append(_own_start(client))
    beyond = statistics.median(whole) - statistics.median(own)
    print(f"{os.cpu_count()} cores, Linux {platform.release()}; medians of {options.rounds}")
    print(f"A rollback: {statistics.median(whole):.2f} s, of which the app's own start {statistics.median(own):.2f} s")
    print(f"Beyond the app's own start: {beyond:.2f} s, at most {MOST_SECONDS} s")
    sys.exit(beyond > MOST_SECONDS)


def _two_releases(stack: ExitStack, folder: Path, engine: str, base: str) -> Person:
    server = Server(folder / "data", engine, {"SLIPWAY_LOCAL_IMAGES": base})
    admin = Person(folder / "admin", "admin")
    server.init(admin)
    stack.callback(server.down)
    server.start()
    server.introduce(admin)
    admin.ssh("apps:create", "shop")
    stack.callback(admin.ssh, "apps:deprovision", "--app", "shop")
    copy = folder / "copy"
    copy.mkdir()
    (copy / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    (copy / "server.py").write_bytes(APP)
    script = (
        "git init -q && git remote add aptible {host}:shop.git && "
        "for version in 1 2; do echo $version > version && git add --all && git commit -qm $version && "
        "git push -q aptible master || exit 1; done"
    )
    done = admin.run(["sh", "-c", script.format(host=HOST)], folder=copy)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return admin


def _own_start(client: docker.DockerClient) -> float:
    """Return the seconds from the start of the newest container's process until it listened."""
    running = client.containers.list(filters={"label": "slipway.app=shop"})
    newest = max(running, key=lambda each: str(each.attrs["State"]["StartedAt"]))
    started = datetime.fromisoformat(newest.attrs["State"]["StartedAt"])
    said = newest.logs().decode().split("listens ", 1)[1].split()[0]
    return (datetime.fromisoformat(said) - started).total_seconds()


if __name__ == "__main__":
    main()
