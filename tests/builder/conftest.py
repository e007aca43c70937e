"""A workbench for stories of the builder: commits made by the real git, built on the real engine."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError

from builder import collection
from builder.build import Source, build
from builder.credentials import PASSWORD, USERNAME
from builder.image import Image
from builder.options import Choice, Options
from builder.pull import pull
from demo.registry import Registry
from store.secret import Secret
from tests.builder.token_registry import TokenRegistry

TEN_MINUTES = 600.0


@dataclass
class Log:
    """What was said."""

    pieces: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        assert text.endswith("\n"), "only whole lines are said"
        self.pieces.append(text)

    def __str__(self) -> str:
        return "".join(self.pieces)

    def printed(self) -> list[str]:
        """Return the lines that steps printed, without the step and time that BuildKit puts before them."""
        return [re.sub(r"\A#[0-9]+ [0-9]+\.[0-9]{3} ", "", line) for line in str(self).splitlines()]


class Workbench:
    """Commits, and an engine to build them on. What it builds, it removes."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder
        self.engine = engine
        self.client = docker.APIClient(engine, version="auto")
        self.tags: list[str] = []
        self.name = "built"
        self.instance = "the-only-installation"
        self.builder: Choice = "auto"
        self.options = Options()
        self.cache_key = Secret("of the only app")

    def git(self, *words: str | Path) -> str:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=master"]
        done = subprocess.run(["git", *identity, "-C", self.folder, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | bytes | Path]) -> Source:
        """Commit exactly these files; a Path is a symbolic link to it."""
        if not (self.folder / ".git").exists():
            self.folder.mkdir(exist_ok=True)
            self.git("init", "--quiet")
        else:
            self.git("rm", "-r", "--quiet", "--ignore-unmatch", ".")
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Change")
        return Source(self.folder / ".git", self.git("rev-parse", "HEAD"))

    def build(
        self,
        files: Mapping[str, str | bytes | Path] | Source,
        config: Mapping[str, str] | None = None,
        *,
        log: Log | None = None,
        cancelled: threading.Event | None = None,
        time_limit: float = TEN_MINUTES,
        engine: str | None = None,
        rebuild: bool = False,
    ) -> Image:
        """Build a commit, or these files as one."""
        self.tags.append(f"slipway-test/{self.name}:{len(self.tags)}")
        return build(
            files if isinstance(files, Source) else self.commit(files),
            engine=engine or self.engine,
            config={key: Secret(value) for key, value in (config or {}).items()},
            tag=self.tags[-1],
            labels={collection.LABEL: self.instance},
            say=(log or Log()).say,
            cancelled=cancelled or threading.Event(),
            time_limit=time_limit,
            cache_key=self.cache_key,
            options=replace(self.options, builder=self.builder),
            rebuild=rebuild,
        )

    def pull(self, reference: str, config: Mapping[str, str] | None = None, *, log: Log | None = None) -> Image:
        """Pull an image as it is."""
        secrets = {key: Secret(value) for key, value in (config or {}).items()}
        return pull(
            reference,
            engine=self.engine,
            config=secrets,
            say=(log or Log()).say,
            cancelled=threading.Event(),
            time_limit=TEN_MINUTES,
            options=self.options,
        )

    def run(self, image: Image, *command: str) -> str:
        """Return what a command prints in a container of the image."""
        container = self.client.create_container(image.id, command=list(command), entrypoint="")["Id"]
        try:
            self.client.start(container)
            assert self.client.wait(container)["StatusCode"] == 0, self.client.logs(container).decode()
            return str(self.client.logs(container).decode())
        finally:
            self.client.remove_container(container, force=True)

    def derive(self, image: str, name: str, *changes: str) -> str:
        """Make an image with Dockerfile instructions applied to its config, by hand, and return its reference."""
        container = self.client.create_container(image, command="true")["Id"]
        repository, _, tag = name.rpartition(":")
        try:
            self.client.commit(container, f"slipway-test/{repository}", tag, changes=list(changes))
        finally:
            self.client.remove_container(container)
        self.tags.append(f"slipway-test/{name}")
        return self.tags[-1]

    def inspect(self, image: str) -> dict[str, Any]:
        """Return what the engine knows of an image."""
        client: Any = self.client
        found: dict[str, Any] = client.inspect_image(image)
        return found

    def images(self) -> set[str]:
        """Return the ids of all images, layers of the build cache among them."""
        return {image["Id"] for image in self.client.images(all=True)}

    def containers(self) -> set[str]:
        return {container["Id"] for container in self.client.containers(all=True)}

    def close(self) -> None:
        tags = [tag for image in self.client.images(f"slipway-test/{self.name}") for tag in image["RepoTags"] or ()]
        for tag in dict.fromkeys([*self.tags, *tags]):
            try:
                self.client.remove_image(tag, force=True)
            except APIError as error:
                assert error.status_code == 404, error
        self.client.close()


def comes_true(condition: Callable[[], bool]) -> bool:
    """Look again and again for up to ten seconds."""
    for _ in range(200):
        if condition():
            return True
        threading.Event().wait(0.05)
    return False


BOTH_BUILDERS = pytest.mark.parametrize("builder", ["classic", "buildkit"])
"""What every builder has to do: the stories of a module that carries this mark are told with each of them."""


@pytest.fixture
def builder() -> Choice:
    """The builder of stories that are about something else."""
    return "auto"


@pytest.fixture
def workbench(tmp_path: Path, engine: str, builder: Choice) -> Iterator[Workbench]:
    bench = Workbench(tmp_path / "app", engine)
    bench.builder = builder
    yield bench
    bench.close()


@pytest.fixture
def account() -> Callable[[Registry], dict[str, str]]:
    """The config of an app that may use a registry."""
    return lambda registry: {USERNAME: registry.username, PASSWORD: registry.password.reveal()}


@pytest.fixture(scope="session")
def token_registry(engine: str, world_folder: Path) -> Iterator[TokenRegistry]:
    """A registry with bearer tokens, where everybody may pull what is under `public/`."""
    with TokenRegistry(world_folder / "token-registry", engine, username="token-user") as running:
        yield running
