"""A private engine works beside another one, harms nothing of it, and leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import docker
import pytest
import requests

from demo import base_image, mounts
from demo.engine import EngineMissingError, answering, private_engine

ROOT = Path(__file__).resolve().parent.parent.parent

ALONE = """
import subprocess, sys
from pathlib import Path
from demo import interface
from demo.engine import private_engine

def state():
    rules = [subprocess.check_output([f"{program}-save"], text=True) for program in ("iptables", "ip6tables")]
    kept = [line.partition(" [")[0] for saved in rules for line in saved.splitlines() if not line.startswith("#")]
    return kept, forwarding.read_text(), interface.exists("docker0")

forwarding = Path("/proc/sys/net/ipv4/ip_forward")
interface.bring_up("lo")
forwarding.write_text("0")
for words in ("-A INPUT -s 203.0.113.9 -j DROP", "-t nat -A POSTROUTING -s 203.0.113.0/24 -j MASQUERADE"):
    subprocess.run(["iptables", *words.split()], check=True)
before = state()
with private_engine(Path(sys.argv[1])):
    during = state()
assert during[0] != before[0] and ":FORWARD DROP" in during[0] and during[2], during
assert state() == before, (before, state())
"""


def firewall_rules() -> str:
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in saved.splitlines() if not line.startswith(("#", ":")))


def interfaces() -> set[str]:
    # A container's end of a link is renamed while it starts and stops; whole bridges are what could be left.
    return {name for _, name in socket.if_nameindex() if not name.startswith("veth")}


def processes_of(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def test_a_second_engine_runs_an_app_and_leaves_the_first_one_as_it_was(engine: str, world_folder: Path) -> None:
    folder = world_folder / "second"
    rules, links = firewall_rules(), interfaces()
    with closing(docker.DockerClient(engine)) as first:
        containers = {container.id for container in first.containers.list(all=True)}

        with private_engine(folder) as url, closing(docker.DockerClient(url)) as second:
            base_image.import_base_image(url, "base:1")
            network = second.networks.create("apps")
            second.containers.run(
                "base:1",
                ["python3", "-c", "import time; print('up', flush=True); time.sleep(600)"],
                network=network.name,
                detach=True,
            )
            web = second.containers.run(
                "base:1", ["python3", "-m", "http.server", "8000"], ports={"8000/tcp": ("127.0.0.1", 0)}, detach=True
            )
            web.reload()
            port = web.attrs["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
            listing = get_once_it_listens(f"http://127.0.0.1:{port}/etc/os-release")
            assert listing.startswith(("PRETTY_NAME", "NAME"))
            assert firewall_rules() == rules
            assert {container.id for container in first.containers.list(all=True)} == containers

    assert firewall_rules() == rules
    assert interfaces() == links
    assert processes_of(folder) == []
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_an_engine_that_is_alone_puts_firewall_and_forwarding_back(engine: str, world_folder: Path) -> None:
    words = ["unshare", "--net", sys.executable, "-c", ALONE, str(world_folder / "alone")]
    story = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert story.returncode == 0, story.stderr


def get_once_it_listens(url: str) -> str:
    retries = requests.adapters.Retry(total=8, connect=8, read=8, backoff_factor=0.1)
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        return session.get(url, timeout=10).text


def test_an_engine_that_breaks_in_the_middle_of_a_demo_is_tidied_up_too(engine: str, world_folder: Path) -> None:
    folder = world_folder / "third"
    links = interfaces()
    with pytest.raises(RuntimeError, match="the story goes wrong"), private_engine(folder):
        raise RuntimeError("the story goes wrong")
    assert interfaces() == links
    assert processes_of(folder) == []
    assert not folder.exists()


def test_an_engine_is_found_where_docker_host_says(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine)
    assert answering() == engine


def test_a_docker_host_that_does_not_answer_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert answering() is None


def test_a_folder_too_deep_for_sockets_is_refused_in_words(engine: str, tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30)
    with pytest.raises(EngineMissingError, match="TMPDIR"), private_engine(folder):
        pass
    assert not folder.exists()


def test_a_folder_with_somebody_elses_files_mounted_in_it_is_not_deleted(engine: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious").write_text("keep")
    folder = tmp_path / "ours"
    (folder / "inside").mkdir(parents=True)
    subprocess.run(["mount", "--bind", theirs, folder / "inside"], check=True)
    mounts.remove_folder(folder)
    assert (theirs / "precious").read_text() == "keep"
    assert not folder.exists()


def test_the_filesystem_of_a_folder_is_known() -> None:
    assert mounts.filesystem(Path("/proc/self")) == "proc"
