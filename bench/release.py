"""Releases under load, with wrk: `python -m bench.release` (Debian: apt-get install wrk).

Rolls an app out again and again while 40 connections ask it for pages, and prints what became of the requests; then
what a release costs beyond the engine's own work. Runs on the engine that answers already, under names of its own that
it removes, or on a private one. Absolute times say little about another machine; p99 is compared with the same load
without a release.
"""

from __future__ import annotations

import argparse
import http.client
import io
import itertools
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

from demo import base_image
from demo.engine import answering, private_engine
from releaser import container, network
from releaser.engine import Engine
from releaser.haproxy import Proxy
from releaser.probe import Silence, get
from releaser.release import Release
from releaser.releaser import Releaser
from releaser.route import Route
from releaser.services import Service
from store.secret import Secret

RELEASES = 50
CONNECTIONS = 40
QUIET_SECONDS = 10
PARTS = ("kept", "close", "single")
"""Under kept connections, under connections that are closed after each answer, and releases without load."""

ROUNDS = 10
"""Releases without load, for what one costs."""

APP = b"""\
import asyncio, os

BODY = os.environ["VERSION"].encode()
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(BODY), BODY)
LAST = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(BODY), BODY)

async def serve(reader, writer):
    try:
        while request := await reader.readuntil(b"\\r\\n\\r\\n"):
            last = b"connection: close" in request.lower()
            writer.write(LAST if last else ANSWER)
            if last:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 8080, backlog=1024)
    await server.serve_forever()

asyncio.run(main())
"""


class House:
    """An instance with one app on a proxy of its own."""

    def __init__(self, engine: str | None, folder: Path, image: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.engine = engine
        self.instance = f"bench-{uuid.uuid4().hex[:8]}"
        self.proxy = Proxy(folder)
        self.releaser = Releaser(engine=engine, instance=self.instance, proxy=self.proxy)
        self.proxy.start()
        self._image = image
        self._numbers = itertools.count(1)
        self.healthy = 0.0
        """When the newest container was found healthy (time.monotonic)."""

    def release(self) -> Release:
        """Return one more release, which answers with its number."""
        number = next(self._numbers)
        return Release(
            instance=self.instance,
            app_id=1,
            app="bench",
            number=number,
            operation=number,
            image=self._image,
            environment={"VERSION": Secret(str(number))},
            procfile=None,
            settings={},
            route=Route(port=self.port),
            git_ref=None,
        )

    def roll_out(self) -> tuple[int, float]:
        """Roll one more release out; return its number, and the seconds until the route led to it."""
        release = self.release()
        begun = time.monotonic()
        with self.releaser.rollout(release, say=self._listen, cancelled=threading.Event()):
            took = time.monotonic() - begun
        return release.number, took

    def _listen(self, line: str) -> None:
        if ": healthy" in line:
            self.healthy = time.monotonic()


@dataclass(frozen=True)
class Load:
    """What wrk found."""

    requests: int
    failed: int
    p99: float
    """Milliseconds."""

    @classmethod
    def parsed(cls, text: str) -> Load:
        """Read wrk's report."""
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        requests = re.search(r"(\d+) requests in", text)
        p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
        if requests is None or p99 is None:
            raise RuntimeError(f"wrk said: {text}")
        failed = sum(map(int, errors.groups())) if errors else 0
        failed += int(statuses[1]) if statuses else 0
        unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
        return cls(int(requests[1]), failed, float(p99[1]) * unit)


@contextmanager
def wrk(port: int, *words: str) -> Iterator[list[Load]]:
    """Load the app while the block runs; the list holds the report afterwards."""
    report: list[Load] = []
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", "1h", "--latency", *words]
    with subprocess.Popen([*command, f"http://127.0.0.1:{port}/"], stdout=subprocess.PIPE, text=True) as process:
        yield report
        process.send_signal(signal.SIGINT)
        report.append(Load.parsed(process.communicate()[0]))


def under_load(house: House, releases: int, name: str, *words: str) -> None:
    """Print what became of the requests, without and with releases."""
    with wrk(house.port, *words) as quiet:
        time.sleep(QUIET_SECONDS)
    begun = time.monotonic()
    with wrk(house.port, *words) as busy:
        for _ in range(releases):
            house.roll_out()
    took = time.monotonic() - begun
    print(
        f"| {name} | {releases} in {took:.0f} s | {busy[0].requests:,} | {busy[0].failed} | {quiet[0].p99:.1f} "
        f"| {busy[0].p99:.1f} | {busy[0].p99 / quiet[0].p99:.2f} |",
        flush=True,
    )


def switch_latency(house: House) -> float:
    """Return the milliseconds from a healthy container to the first answer of its release on the route."""
    first: dict[str, float] = {}
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)) as connection:
                connection.request("GET", "/")
                answer = connection.getresponse().read().decode()
            first.setdefault(answer, time.monotonic())
            time.sleep(0.001)

    visitor = threading.Thread(target=visit)
    visitor.start()
    number, _ = house.roll_out()
    over.set()
    visitor.join()
    return (first[str(number)] - house.healthy) * 1000


def engine_alone(house: House, client: docker.DockerClient) -> float:
    """Return the seconds that the engine and the app take by themselves: create, start, first answer."""
    release = house.release()
    with Engine(house.engine) as engine:
        place = engine.network(house.instance)
        taken = {each.address for each in engine.containers(house.instance)}
    address = network.free_address(place, taken)
    asked = container.body(release, Service("cmd", None, 8080), 0, place.name, address)
    asked["Env"] = container.revealed(release.environment)
    begun = time.monotonic()
    identifier = client.api.create_container_from_config(asked)["Id"]
    client.api.start(identifier)
    while isinstance(get(address, 8080, "/", "localhost", seconds=10, watch=lambda: None), Silence):
        time.sleep(0.001)
    took = time.monotonic() - begun
    client.api.remove_container(identifier, force=True)
    return took


def without_load(house: House, client: docker.DockerClient) -> None:
    """Print what a release costs beyond the engine and the app, and how soon its route leads to it."""
    alone, releases, switches = [], [], []
    for _ in range(ROUNDS):  # in turn, so that the machine's moods meet both
        alone.append(engine_alone(house, client))
        releases.append(house.roll_out()[1])
        switches.append(switch_latency(house))
    overhead = (statistics.median(releases) - statistics.median(alone)) * 1000
    print(f"\nFrom healthy to the first answer on the route: {statistics.median(switches):.1f} ms (median)")
    print(f"Engine and app alone: {statistics.median(alone):.2f} s; a release: {statistics.median(releases):.2f} s")
    print(f"A release (or a rollback) beyond that: {overhead:.0f} ms")


def build(client: docker.DockerClient, base: str) -> str:
    """Build the app's image and return its id."""
    context = io.BytesIO()
    dockerfile = f'FROM {base}\nCOPY app.py /app.py\nEXPOSE 8080\nCMD ["python3", "/app.py"]\n'.encode()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, content in {"app.py": APP, "Dockerfile": dockerfile}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    context.seek(0)
    image, _ = client.images.build(fileobj=context, custom_context=True, rm=True, forcerm=True)
    return str(image.id)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(prog="python -m bench.release", description=__doc__)
    parser.add_argument("--releases", type=int, default=RELEASES, help="releases under each load (default %(default)s)")
    parser.add_argument("--part", choices=PARTS, action="append", help="this part only; repeatable, all by default")
    options = parser.parse_args()
    parts = options.part or PARTS
    base = f"slipway-bench-{uuid.uuid4().hex[:8]}:python"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        engine = answering() or stack.enter_context(private_engine(folder / "engine"))
        client = stack.enter_context(closing(docker.DockerClient(engine)))
        base_image.import_base_image(engine, base, base_image.PYTHON)
        stack.callback(client.images.remove, base, force=True)
        image = build(client, base)
        stack.callback(client.images.remove, image, force=True)
        (folder / "proxy").mkdir()
        house = House(engine, folder / "proxy", image)
        stack.callback(house.releaser.remove_everything)
        house.roll_out()
        print(f"{os.cpu_count()} cores, Linux {platform.release()}, Docker {client.version()['Version']}\n")
        print("| load | releases | requests | failed | p99 quiet, ms | p99 during, ms | ratio |")
        print("|---|---|---|---|---|---|---|", flush=True)
        if "kept" in parts:
            under_load(house, options.releases, f"{CONNECTIONS} kept connections")
        if "close" in parts:
            close = ("--header", "Connection: close")
            under_load(house, options.releases, f"{CONNECTIONS} with `Connection: close`", *close)
        if "single" in parts:
            without_load(house, client)


if __name__ == "__main__":
    main()
