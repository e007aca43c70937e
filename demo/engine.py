"""A Docker engine: the one that answers already, or a private one that leaves nothing behind.

A private engine is a `dockerd` with a `containerd` of its own; data, state and sockets are in one folder that goes away
with it. How it uses the network depends on who else is there:

* Where it is alone, it manages `docker0` and the firewall as any engine does, and both are put back afterwards.
* Beside another engine it touches no firewall rule: two engines in one network namespace would rewrite each other's.
  It gets a bridge of its own; published ports go through docker-proxy, and containers do not reach the outside.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException

from demo import firewall, interface, mounts
from demo.process import Process, ProgramError
from demo.root_filesystem import SYSTEM_PATH
from store.errors import SlipwayError

DEFAULT_URL = "unix:///var/run/docker.sock"
"""Where an engine listens unless it is told otherwise."""

_CONTAINERD = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""
"""Kubernetes' interface is off: it is of no use here, and it wants a port."""

_POOL = "10.213.0.0/16"
"""Addresses for networks beside another engine. Both engines pass over what the other's bridges occupy."""

_USUAL_BRIDGE = "docker0"

_BRIDGES = 64
"""How many private engines may run at once."""

_READY_SECONDS = 60.0
"""An engine is ready within a second; a busy machine's first start has taken ten."""

_SOCKET_PATH_BYTES = 107
"""sun_path without its closing zero byte (unix(7))."""


class EngineMissingError(SlipwayError):
    """There is no Docker engine to be had. Nothing was started."""


def answering() -> str | None:
    """Return the URL of an engine that the caller may use: `DOCKER_HOST`'s, else the default one's, or None."""
    url = os.environ.get("DOCKER_HOST") or DEFAULT_URL
    try:
        with docker.APIClient(url, timeout=5) as client:
            client.ping()
    except DockerException:
        return None
    return url


class Dockerd:
    """A private engine's daemon, which can be stopped or killed, and started again, as on any machine."""

    def __init__(self, url: str, words: list[str], log: Path, environment: dict[str, str]) -> None:
        self.url = url
        self._words = words
        self._log = log
        self._environment = environment
        self._process: Process | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        self._process = Process(self._words, log=self._log, environment=self._environment)
        _wait_until_it_answers(self.url, self._process)

    def stop(self) -> None:
        """Stop it in good order: it stops its containers."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL): its containers run on."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()


@contextmanager
def private_engine(folder: Path) -> Iterator[str]:
    """Run an engine as `private_dockerd` does, and yield its URL."""
    with private_dockerd(folder) as dockerd:
        yield dockerd.url


@contextmanager
def private_dockerd(folder: Path) -> Iterator[Dockerd]:
    """Run an engine of its own in `folder` (made if need be) and yield its daemon, to be left running.

    All its containers, processes, mounts and network interfaces are gone afterwards, and `folder` with them. Raises
    EngineMissingError where it cannot be started.
    """
    _check_possible(folder)
    # A bridge without an engine may belong to one that is being restarted.
    alone = not _engine_runs() and not interface.exists(_USUAL_BRIDGE)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _usual_network() if alone else _own_bridge() as bridge, _containerd(folder) as containerd:
            words = _dockerd(folder, containerd, bridge)
            dockerd = Dockerd(f"unix://{folder}/docker.sock", words, folder / "dockerd.log", _environment(folder))
            try:
                dockerd.start()
                try:
                    yield dockerd
                finally:
                    _remove_containers(dockerd.url)
            finally:
                dockerd.stop()
    finally:
        mounts.remove_folder(folder)


def _dockerd(folder: Path, containerd: Path, bridge: str | None) -> list[str]:
    """Return dockerd's words. `bridge` names a bridge made for it, beside another engine."""
    words = [
        *("dockerd", f"--host=unix://{folder}/docker.sock", f"--config-file={folder}/daemon.json"),
        *(f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/dockerd.pid"),
        f"--containerd={containerd}",
    ]
    if mounts.filesystem(folder) == "overlay":
        # overlay2 does not work on top of an overlay, which is what a container's own root is.
        words.append("--storage-driver=vfs")
    if bridge is not None:
        words += [f"--bridge={bridge}", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
        words.append(f"--default-address-pool=base={_POOL},size=24")
    return words


def _environment(folder: Path) -> dict[str, str]:
    """Return the engine's environment: of the caller's only what leads to the outside, such as a proxy."""
    passed_on = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
    kept = {name: os.environ[name] for name in passed_on if name in os.environ}
    return {**kept, "PATH": SYSTEM_PATH, "HOME": str(folder)}


def _check_possible(folder: Path) -> None:
    if os.geteuid() != 0:
        raise EngineMissingError(
            "no Docker engine answers, and only root can start one; start Docker and join its group, or set DOCKER_HOST"
        )
    for program, package in (("dockerd", "docker.io"), ("containerd", "containerd"), ("iptables", "iptables")):
        if shutil.which(program) is None:
            raise EngineMissingError(f"there is no {program} here; install the Debian package {package}")
    if len(f"{folder}/containerd.sock.ttrpc") > _SOCKET_PATH_BYTES:
        raise EngineMissingError(f"{folder} is too long a name for the sockets in it; set TMPDIR to a shorter one")


def _engine_runs() -> bool:
    """Return whether any engine runs in this network namespace."""
    return any(_is_engine_here(process) for process in Path("/proc").glob("[0-9]*"))


def _is_engine_here(process: Path) -> bool:
    try:
        same_network = (process / "ns/net").readlink() == Path("/proc/self/ns/net").readlink()
        return same_network and (process / "comm").read_text() == "dockerd\n"
    except OSError:  # it has just ended
        return False


@contextmanager
def _usual_network() -> Iterator[None]:
    """Let the engine make `docker0` and its firewall rules, and take both away afterwards."""
    before = firewall.saved()
    try:
        yield
    finally:
        # An engine that has been started meanwhile relies on both.
        if not _engine_runs():
            firewall.restore(before)
            if interface.exists(_USUAL_BRIDGE):
                interface.delete_bridge(_USUAL_BRIDGE)


@contextmanager
def _own_bridge() -> Iterator[str]:
    """Make a bridge under the first free name, and delete it afterwards."""
    for name in (f"slipway{number}" for number in range(_BRIDGES)):
        try:
            interface.add_bridge(name)
        except FileExistsError:
            continue
        break
    else:
        raise EngineMissingError("too many bridges slipway0, slipway1, … are left on this machine; delete some of them")
    try:
        yield name
    finally:
        interface.delete_bridge(name)


@contextmanager
def _containerd(folder: Path) -> Iterator[Path]:
    """Run a containerd for one engine, which would otherwise take the machine's, and yield its socket."""
    configuration = folder / "containerd.toml"
    configuration.write_text(_CONTAINERD)
    (folder / "daemon.json").write_text("{}")  # instead of the machine's /etc/docker/daemon.json
    address = folder / "containerd.sock"
    words = [
        *("containerd", f"--config={configuration}", f"--address={address}"),
        *(f"--root={folder}/containerd", f"--state={folder}/containerd-state"),
    ]
    with Process(words, log=folder / "containerd.log", environment=_environment(folder)) as process:
        process.wait_for("containerd successfully booted", _READY_SECONDS)
        yield address


def _wait_until_it_answers(url: str, dockerd: Process) -> None:
    dockerd.wait_for(r"API listen on ", _READY_SECONDS)
    try:
        with docker.APIClient(url) as client:
            client.ping()
    except DockerException as error:
        raise ProgramError(f"the engine at {url} was started and does not answer: {error}") from error


def _remove_containers(url: str) -> None:
    """Remove every container, so that none of its processes outlives the engine."""
    with closing(docker.DockerClient(url)) as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True, v=True)
        # A network that is still there would keep its bridge.
        client.networks.prune()
