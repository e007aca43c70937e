"""The base images are usable as any public one: a shell for RUN, and a Python that can do what web apps do."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

import docker

from demo.root_filesystem import RootFilesystem

EVERYDAY_PYTHON = """
import asyncio, bz2, ctypes, decimal, hashlib, http.server, json, lzma, socket, sqlite3, ssl, urllib.request, uuid
assert hashlib.sha256(b"").hexdigest().startswith("e3b0")
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
assert socket.gethostbyname("localhost") == "127.0.0.1"
import os, pwd
assert pwd.getpwuid(os.getuid()).pw_name == "root"
print("fine")
"""


def run(engine: str, image: str, words: list[str]) -> str:
    with closing(docker.DockerClient(engine)) as client:
        output: bytes = client.containers.run(image, words, remove=True)
        return output.decode()


def test_python_has_what_web_apps_use(engine: str, base_image: str) -> None:
    assert run(engine, base_image, ["python3", "-c", EVERYDAY_PYTHON]) == "fine\n"


def test_a_shell_script_finds_its_usual_programs(engine: str, small_image: str) -> None:
    script = (
        "set -e; mkdir -p /srv/x; echo one two | tr ' ' '\\n' | sort -r | head -1 > /srv/x/y; cat /srv/x/y; ls /tmp"
    )
    assert run(engine, small_image, ["/bin/sh", "-c", script]) == "two\n"


def test_it_is_the_distribution_of_this_machine_and_holds_none_of_its_accounts(engine: str, base_image: str) -> None:
    assert run(engine, base_image, ["cat", "/etc/os-release"]) == Path("/etc/os-release").read_text()
    accounts = run(engine, base_image, ["cut", "-d:", "-f1", "/etc/passwd"]).split()
    assert accounts == ["root", "nobody"]
    assert "shadow" not in run(engine, base_image, ["ls", "/etc"]).split()


def test_links_on_the_way_come_along_and_modes_are_tame(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    program = tmp_path / "real" / "program"
    program.write_text("x")
    program.chmod(0o6777)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "alternative").symlink_to(tmp_path / "link" / ".." / "link" / "program")
    root = RootFilesystem()
    root.add([tmp_path / "alternative", tmp_path / "absent"])
    root.write(tmp_path / "root.tar", {"etc/motd": "hello"})
    listing = subprocess.run(
        ["tar", "--numeric-owner", "-tvf", tmp_path / "root.tar"], capture_output=True, text=True, check=True
    ).stdout
    inside = str(tmp_path)[1:]
    modes = {line.split()[5]: (line.split()[0], line.split()[1]) for line in listing.splitlines()}
    assert modes[f"{inside}/real/program"] == ("-rwxr-xr-x", "0/0")
    assert modes[f"{inside}/link"][0] == modes[f"{inside}/alternative"][0] == "lrwxrwxrwx"
    assert modes["etc/motd"][0] == "-rw-r--r--"
    assert f"{inside}/absent" not in modes
