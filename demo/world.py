"""The world of the demo: an engine, a private registry with a base image in it, a server, and somebody who uses it."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

from demo.base_image import import_base_image
from demo.engine import EngineMissingError, answering, private_engine
from demo.interruption import hold_off_signals
from demo.person import Person
from demo.registry import Registry
from demo.server import Server
from demo.terminal import explain, run, show_command
from store.data_folder import DataFolder
from store.database import Store
from store.errors import SlipwayError

_LOCAL_BASE = "slipway-demo/base:local"
"""The base image's name in the engine, from its making to its push."""


_LOG_LINES_SHOWN = 30
"""Enough for a traceback with what led to it."""


@dataclass(frozen=True)
class World:
    """Everything is running."""

    server: Server
    registry: Registry
    base: str
    """The private base image's full name in the registry."""
    alice: Person

    @property
    def login(self) -> str:
        """The words that begin every command to the server."""
        return f"ssh -p {self.server.port} git@{self.server.host}"


@contextmanager
def world() -> Iterator[World]:
    """Start everything; afterwards stop it and remove whatever was made, whatever happened meanwhile."""
    with ExitStack() as stack:
        try:
            yield _start(stack)
        finally:
            hold_off_signals()
            explain("Cleaning up.")


def _show_log(server: Server) -> Callable[..., None]:
    """Return an exit callback that shows the end of the server's log when a step went wrong; the file goes away."""

    def show(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, SlipwayError):
            lines = server.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
            print("\nThe end of the server's log:", *lines, sep="\n    ", flush=True)

    return show


def _start(stack: ExitStack) -> World:
    """Start everything, and leave with `stack` how to stop it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-demo-")))
    engine = answering()
    if engine is None:
        explain("No Docker engine answers, so a private one is started; it goes away with the demo.")
        engine = stack.enter_context(private_engine(folder / "engine"))
    elif not engine.startswith("unix://"):
        raise EngineMissingError(f"DOCKER_HOST is {engine}; the demo needs an engine on this machine, unix://…")
    else:
        explain(f"The Docker engine at {engine} is used; nothing on it but the demo's own things is touched.")
    explain("A registry with a password is started, and gets a private base image: Debian with Python.")
    registry = stack.enter_context(Registry(folder / "registry", engine))
    stack.callback(_remove_images, engine, f"{registry.host}/")
    base = _private_base(engine, registry)
    print(f"{base} is there, for '{registry.username}' with a password.", flush=True)
    server = _serve(stack, folder, engine)
    alice = Person(folder / "alice", "alice")
    run(_slipway(server, "users", "add", "alice", "--key", alice.public_key), server.environment, folder)
    server.introduce(alice)
    return World(server, registry, base, alice)


def _private_base(engine: str, registry: Registry) -> str:
    import_base_image(engine, _LOCAL_BASE)
    try:
        return registry.push(_LOCAL_BASE, "private/python:1")
    finally:
        with docker.APIClient(engine) as client:
            client.remove_image(_LOCAL_BASE)


def _serve(stack: ExitStack, folder: Path, engine: str) -> Server:
    """Prepare a data folder and serve it, as whoever operates the server does."""
    server = Server(folder / "data", engine)
    operator = Person(folder / "operator", "operator")
    explain("Whoever operates the server prepares a data folder, starts the server and adds a user with an SSH key.")
    init = _slipway(server, "init", "--admin-key", operator.public_key, "--admin-name", operator.name)
    run(init, server.environment, folder)
    stack.callback(_remove_images, engine, f"slipway-{_instance(server)}/")
    stack.callback(server.down)
    show_command(shlex.join(["slipway", *server.serve_words()]) + " &")
    server.start()
    stack.push(_show_log(server))
    print(server.greeting, flush=True)
    return server


def _slipway(server: Server, *words: str | Path) -> str:
    return shlex.join(["slipway", *map(str, words), "--data", str(server.data)])


def _instance(server: Server) -> str:
    store = Store.open(DataFolder(server.data))
    try:
        return store.instance()
    finally:
        store.close()


def _remove_images(engine: str, prefix: str) -> None:
    """Remove the images that the demo has brought to an engine, which are those whose name begins with `prefix`."""
    with docker.APIClient(engine) as client:
        for image in client.images():
            for name in [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]:
                if name.startswith(prefix):
                    client.remove_image(name)
