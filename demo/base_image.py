"""Base images out of the machine's own files, in about a second and without any public registry.

`PYTHON` is a realistic base for applications: the distribution's Python with its standard library, a shell and the
usual small programs. `SHELL` has the shell and the small programs only.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import docker

from demo.root_filesystem import SYSTEM_PATH, RootFilesystem
from store.errors import SlipwayError

_PROGRAMS = """
    [ awk basename bash cat chmod chown cp cut date dirname echo env expr false find grep gzip head hostname id ln ls
    md5sum mkdir mktemp mv nproc od printf pwd readlink realpath rm rmdir sed seq sh sha256sum sleep sort stat tail tar
    tee test touch tr true uname uniq wc whoami xargs
"""

_SYSTEM_FILES = """
    /bin /sbin /etc/debian_version /etc/ld.so.cache /etc/mime.types /etc/os-release /etc/protocols /etc/services
    /etc/ssl/openssl.cnf /usr/lib/ssl/certs /usr/lib/ssl/openssl.cnf
"""

_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

_NEEDED = "http.server, json, sqlite3, ssl, sysconfig"
"""A server's minimum of the standard library: Debian's python3-minimal alone lacks it."""

_LEFT_OUT = {"test", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "turtledemo", "tkinter"}
"""Parts of the standard library that no server needs."""


class BaseImageError(SlipwayError):
    """A base image cannot be made on this machine. Nothing was imported."""


@dataclass(frozen=True)
class Recipe:
    """What a base image holds and runs."""

    python: bool
    command: str
    """The image's CMD, in Dockerfile form."""


PYTHON = Recipe(python=True, command='["python3"]')
SHELL = Recipe(python=False, command='["/bin/sh"]')


def import_base_image(engine: str, reference: str, recipe: Recipe = PYTHON) -> str:
    """Make a base image in the engine at URL `engine`, name it `reference` (`repository:tag`) and return its id.

    Raises BaseImageError.
    """
    repository, _, tag = reference.rpartition(":")
    with tempfile.TemporaryDirectory(prefix="slipway-base-") as folder, docker.APIClient(engine) as client:
        archive = Path(folder) / "root.tar"
        _root(recipe).write(archive, _TEXTS)
        changes = [f"CMD {recipe.command}", f"ENV PATH={SYSTEM_PATH} LANG=C.UTF-8"]
        client.import_image(src=str(archive), repository=repository, tag=tag, changes=changes)
        return str(client.images(name=reference)[0]["Id"])


def _root(recipe: Recipe) -> RootFilesystem:
    root = RootFilesystem()
    root.add(Path(path) for path in _SYSTEM_FILES.split())
    root.add_tree(Path("/etc/ssl/certs"))
    programs = [Path(found) for name in _PROGRAMS.split() if (found := shutil.which(name, path=SYSTEM_PATH))]
    if recipe.python:
        interpreter, library = _distribution_python()
        # Those that begin with config- are for programs that embed Python, and large.
        root.add_tree(library, without={*_LEFT_OUT, *(path.name for path in library.glob("config-*"))})
        programs += [interpreter, *library.glob("lib-dynload/*.so")]
    root.add_programs(programs)
    return root


def _distribution_python() -> tuple[Path, Path]:
    """Return the distribution's python3 and the folder of its standard library."""
    interpreter = shutil.which("python3", path="/usr/bin:/bin")
    if interpreter is None:
        raise BaseImageError("the base image is made of the distribution's own Python; install the package python3")
    script = f"import {_NEEDED}; print(sysconfig.get_path('stdlib'))"
    answer = subprocess.run([interpreter, "-I", "-c", script], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BaseImageError(f"{interpreter} lacks a part of its standard library; install the package python3")
    return Path(interpreter), Path(answer.stdout.strip())
