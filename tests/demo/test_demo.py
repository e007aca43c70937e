"""The demo shows both ways of deploying, fails loudly, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import docker
import pytest

from demo.process import Process
from demo.story import check_answer
from demo.terminal import StepError, run
from tests.world.network_namespace import listening_ports

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = (sys.executable, "-u", "-m", "demo")


@pytest.fixture
def environment(engine: str, tmp_path: Path) -> dict[str, str]:
    """What the demo runs in: `engine` is the machine's engine to it, and its temporary files are counted."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {**os.environ, "DOCKER_HOST": engine, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}


def everything_on(engine: str) -> set[str]:
    with closing(docker.DockerClient(engine)) as client:
        containers = {f"container {container.id}" for container in client.containers.list(all=True)}
        images = {f"image {image.id} {sorted(image.tags)}" for image in client.images.list(all=True)}
        networks = {f"network {network.name}" for network in client.networks.list()}
    return containers | images | networks | {f"port {port}" for port in listening_ports()}


def test_both_ways_of_deploying_are_shown_and_nothing_stays(engine: str, environment: dict[str, str]) -> None:
    before = everything_on(engine)
    shown = subprocess.run(
        [*DEMO, "--once"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    lines = shown.stdout.splitlines()
    first_push = lines.index("$ git push aptible master")
    second_push = lines.index("$ git push aptible master:deploy-1")
    deploy = next(number for number, line in enumerate(lines) if "deploy --app hello --git-commitish deploy-1" in line)
    assert "hello from version 1" in lines[first_push:second_push]
    assert "hello from version 1" in lines[second_push:deploy]
    assert "welcome from version 2" in lines[deploy:]
    assert everything_on(engine) == before
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


def test_a_demo_that_is_stopped_during_a_build_leaves_nothing_behind(
    engine: str, environment: dict[str, str], tmp_path: Path
) -> None:
    before = everything_on(engine)
    with Process([*DEMO], log=tmp_path / "log", environment=environment, folder=ROOT) as demo:
        demo.wait_for("Step 2/", 120)
        os.kill(demo.pid, signal.SIGINT)
        assert demo.wait(120) == 128 + signal.SIGINT
    assert everything_on(engine) == before
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody without rights, which takes root")
def test_somebody_without_an_engine_and_without_root_is_told_what_to_do(environment: dict[str, str]) -> None:
    environment["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    # In a user namespace without any rights, since another user might not reach the folder that this clone is in.
    shown = subprocess.run(
        ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--", *DEMO, "--once"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 1
    assert "only root can start one" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.fixture
def answering_app() -> Iterator[str]:
    """An app that answers `hello from version 1`, or status 503 at /broken."""

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if self.path == "/broken" else 200)
            self.end_headers()
            self.wfile.write(b"hello from version 1\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  named so by the base class
            pass

    with HTTPServer(("127.0.0.1", 0), App) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_wrong_answer_of_the_app_ends_the_demo(answering_app: str) -> None:
    check_answer(answering_app, "hello from version 1")
    with pytest.raises(StepError, match="answers 'hello from version 2', but the answer is 'hello from version 1'"):
        check_answer(answering_app, "hello from version 2")
    with pytest.raises(StepError, match="but the answer is 'status 503: hello from version 1'"):
        check_answer(f"{answering_app}/broken", "hello from version 1")


def test_a_command_that_fails_ends_the_demo(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(StepError, match="expected 'echo oh no; exit 3' to succeed, but its exit status is 3"):
        run("echo oh no; exit 3", dict(os.environ), tmp_path)
    assert capfdbinary.readouterr().out == b"\n$ echo oh no; exit 3\noh no\n"
