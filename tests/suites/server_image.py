"""The server in containers, as `Dockerfile` and `compose.yaml` have it: `python -m tests.suites.server_image`.

On an engine of its own the image is built, out of this clone and this machine's own Debian packages; the server and its
proxy are started from the compose file, an app is pushed, and the server's container is replaced under load. It takes
root, the packages that `bin/setup --dev` installs, pip's way to its index, and about two minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import docker
import yaml
from docker.models.containers import Container

from demo import base_image
from demo.engine import private_engine
from demo.person import Person
from demo.root_filesystem import SYSTEM_PATH
from tests.releaser.load import Load
from tests.stories import web_app
from tests.world.network_namespace import enter_own
from tests.world.working_copy import Repo

ROOT = Path(__file__).parents[2]
BASE = "slipway-suite/base:debian"
APP_BASE = "slipway-suite/base:python"
PORT = 2222
"""The image's own ports: the network is one of our own."""
API = "127.0.0.1:8422"
PACKED = ("builder", "console", "gitserver", "hooks", "releaser", "store")
PATIENCE_SECONDS = 120


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="slipway-image-") as name:
        folder = Path(name)
        (folder / "nothing").mkdir()
        os.environ["DOCKER_CONFIG"] = str(folder / "nothing")  # no login of whoever runs this
        step("collecting the packages of requirements.lock")
        context = make_context(folder / "context")
        enter_own()
        with private_engine(folder / "engine") as url, closing(docker.DockerClient(url, timeout=600)) as client:
            step("making base images")
            import_debian(url, folder)
            base_image.import_base_image(url, APP_BASE)
            step("building the server's image")
            arguments = {"BASE": BASE, "PIP_OPTIONS": "--no-index --find-links=wheels"}
            try:
                client.images.build(path=str(context), tag="slipway", buildargs=arguments, rm=True)
            except docker.errors.BuildError as error:
                sys.exit("".join(str(line.get("stream", "")) for line in error.build_log) + str(error))
            play(client, folder, url)
    print("all is as it should be")


def make_context(folder: Path) -> Path:
    """Copy what the image is made of, and the packages that it installs."""
    for name in PACKED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--dest", str(folder / "wheels")]
    subprocess.run([*words, "-r", str(ROOT / "requirements.lock")], check=True)
    return folder


def import_debian(url: str, folder: Path) -> None:
    """Make the base image: what Debian's packages would bring, from this machine's files."""
    root = base_image._root(base_image.PYTHON)
    library = Path("/usr/lib/python3.11")
    for tree in (library / "ensurepip", Path("/usr/share/python-wheels"), Path("/usr/lib/git-core")):
        root.add_tree(tree)
    wanted = ("git", "haproxy", "setcap", "install", "chown")
    programs = [Path(found) for name in wanted if (found := shutil.which(name, path=SYSTEM_PATH))]
    # What compiled Python packages are linked to, and no Debian image is without.
    for library_name in ("libpthread", "libdl", "librt", "libutil", "libm", "libstdc++", "libgcc_s"):
        root.add(Path("/lib").glob(f"*-linux-gnu/{library_name}.so.?"))
    root.add_programs([*programs, *Path("/usr/lib/git-core").glob("git*")])
    archive = folder / "debian.tar"
    root.write(archive, base_image._TEXTS)
    repository, _, tag = BASE.rpartition(":")
    with docker.APIClient(url) as client:
        client.import_image(src=str(archive), repository=repository, tag=tag, changes=[f"ENV PATH={SYSTEM_PATH}"])


def play(client: docker.DockerClient, folder: Path, url: str) -> None:
    """Do what docs/running.md says, and what somebody does who operates the server."""
    sock = Path(url.removeprefix("unix://"))
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    admin = Person(folder / "admin", "admin")

    def start(name: str) -> Container:
        return run(client, services[name], sock, {"SLIPWAY_HOST": "127.0.0.1", "SLIPWAY_LOCAL_IMAGES": APP_BASE})

    step("preparing the data folder")
    client.containers.run(
        "slipway",
        ["init", "--admin-key", "/key.pub"],
        volumes={"data": {"bind": "/var/lib/slipway"}, str(admin.public_key): {"bind": "/key.pub"}},
        remove=True,
    )
    step("starting the proxy and the server")
    proxy, server = start("proxy"), start("server")
    wait(ready, server, "the server is not ready")
    fingerprint = re.search(r"host key (SHA256:\S+)", server.logs().decode())
    assert fingerprint
    admin.trust("127.0.0.1", PORT, fingerprint[1])
    check(client, proxy, server)

    step("pushing an app")
    web_app.create(admin, "shop")
    repo = Repo(admin, "shop")
    repo.commit(web_app.files(APP_BASE, "1"))
    pushed = repo.push()
    assert pushed.returncode == 0, pushed.stderr + server.logs().decode()
    address = web_app.show(admin, "shop")["url"]
    assert web_app.answer(address)["version"] == "1"

    step("replacing the server's container while the app is asked")
    with Load(int(address.rpartition(":")[2]), clients=4) as load:
        server.stop(timeout=90)
        server.reload()
        assert server.attrs["State"]["ExitCode"] == 0
        server.remove()
        server = start("server")
        wait(ready, server, "the new server is not ready")
    assert load.failures == [], load.failures[:3]
    assert sum(load.answers.values()) > 100
    print(f"    {sum(load.answers.values())} requests, none failed")

    step("pushing again, and taking everything away")
    repo.commit(web_app.files(APP_BASE, "2"))
    pushed = repo.push()
    assert pushed.returncode == 0, pushed.stderr
    assert web_app.answer(address)["version"] == "2"
    server.stop(timeout=90)
    down = {**services["server"], "command": ["down"]}
    done = run(client, down, sock, {})
    assert done.wait()["StatusCode"] == 0, done.logs().decode()
    assert not web_app.answers(address)
    proxy.stop()
    assert {container.name for container in client.containers.list()} == set()


def check(client: docker.DockerClient, proxy: Container, server: Container) -> None:
    """Nobody is root, and the image knows how it is asked for its health."""
    for container in (proxy, server):
        status, told = container.exec_run(["sh", "-c", "id -u; cat /proc/1/status"])
        assert status == 0
        assert isinstance(told, bytes)
        assert told.startswith(b"10001\n"), "it runs as root"
    assert server.exec_run(["slipway", "ready"]).exit_code == 0
    health = client.api.inspect_image("slipway")["Config"]["Healthcheck"]["Test"]
    assert health == ["CMD", "slipway", "ready"]


def run(client: docker.DockerClient, service: dict[str, Any], sock: Path, settings: dict[str, str]) -> Container:
    """Start a container as the compose file has it; whatever it says that is not understood here is an error."""
    known = {"image", "build", "command", "network_mode", "depends_on", "volumes", "environment", "group_add"}
    unknown = set(service) - known - {"healthcheck", "restart", "security_opt", "stop_grace_period", "pull_policy"}
    assert not unknown, f"compose.yaml has what this suite does not know: {unknown}"
    volumes = dict(volume.split(":") for volume in service["volumes"])
    places = {str(sock) if name.endswith("docker.sock") else name: {"bind": path} for name, path in volumes.items()}
    return client.containers.run(
        service["image"],
        service["command"],
        detach=True,
        network_mode=service["network_mode"],
        volumes=cast("dict[str, dict[str, str]]", places),
        group_add=[str(sock.stat().st_gid)] if "group_add" in service else [],
        environment=settings,
        security_opt=service.get("security_opt", []),
        healthcheck={"test": ["NONE"]} if service.get("healthcheck") else None,
    )


def ready() -> bool:
    """Return whether the server says so to anybody who asks."""
    try:
        with urllib.request.urlopen(f"http://{API}/readyz", timeout=20) as response:
            return bool(json.loads(response.read())["ready"])
    except (OSError, urllib.error.URLError):
        return False


def wait(holds: Callable[[], bool], server: Container, otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        server.reload()
        if time.monotonic() > deadline or server.status == "exited":
            sys.exit(f"{otherwise}; its log:\n{server.logs().decode()}")
        time.sleep(0.2)


def step(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


if __name__ == "__main__":
    main()
