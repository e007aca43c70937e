"""Whether everything that knows of an app tells the same: records, branches, containers, routes, images, logs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from store import apps, configs, operations, releases, services
from store.apps import App
from store.data_folder import DataFolder
from store.database import Store
from store.operations import Operation
from store.releases import Release
from store.services import NEW_SERVICE, ServiceSettings

DEPLOYING = ("refs/heads/master", "refs/heads/main")

NOT_CONFIG = ("APTIBLE_PRIVATE_REGISTRY_USERNAME", "APTIBLE_PRIVATE_REGISTRY_PASSWORD")

ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Recorded:
    """What the records say of one app."""

    app: App
    release: Release | None
    config: dict[str, str]
    services: dict[str, ServiceSettings]
    operations: list[Operation]
    """The newest first."""


class Examiner:
    """Compares what a server's records say with everything else. It only reads."""

    def __init__(self, data: Path, engine: str) -> None:
        self._folder = DataFolder(data)
        self._store = Store.open(self._folder)
        self._engine = docker.APIClient(engine)
        self._instance = self._store.instance()

    def close(self) -> None:
        self._store.close()
        self._engine.close()

    def recorded(self, handle: str) -> Recorded:
        with self._store.read() as connection:
            app = apps.by_handle(connection, handle)
            config = configs.current(connection, self._store.seal, app)
            return Recorded(
                app,
                releases.current(connection, app),
                {name: value.reveal() for name, value in config.values.items()},
                dict(services.of_app(connection, app)),
                operations.of_app(connection, app, 1000),
            )

    def busy(self, handle: str) -> bool:
        """Return whether an operation of the app is not over."""
        with self._store.read() as connection:
            return any(each.app == handle for each in operations.unfinished(connection))

    def exists(self, handle: str) -> bool:
        """Return whether there is the app, or there is no more."""
        with self._store.read() as connection:
            return any(app.handle == handle for app in apps.everywhere(connection))

    def traces(self, app: App) -> list[str]:
        """Return a sentence for each thing that is left of an app which was deprovisioned."""
        label = {"label": [f"slipway.instance={self._instance}", f"slipway.app-id={app.id}"]}
        found = [f"{each['Names']} is left" for each in self._engine.containers(all=True, filters=label)]
        if self.repository(app).exists():
            found.append("its repository is left")
        names = [name for image in self._engine.images() for name in image["RepoTags"] or ()]
        found += [
            f"the image {name} is left" for name in names if name.startswith(f"slipway-{self._instance}/app-{app.id}:")
        ]
        with closing(socket.socket()) as probe:
            if app.port is not None and probe.connect_ex(("127.0.0.1", app.port)) == 0:
                found.append(f"something answers at port {app.port}")
        return found

    def disagreements(self, handle: str) -> list[str]:
        """Return a sentence for each thing that tells otherwise than the records, or should not be there."""
        recorded = self.recorded(handle)
        return [
            *self._unfinished(recorded),
            *self._refs(recorded),
            *self._litter(recorded),
            *self._containers(recorded),
            *self._answer(recorded),
            *self._logs(recorded),
        ]

    def repository_disagreements(self, handle: str, *, but_unfinished: bool) -> list[str]:
        """Return the same of an app's repository alone; `but_unfinished` lets it hold commits of operations."""
        recorded = self.recorded(handle)
        held = "hold commits of operations" if but_unfinished else "\0"
        return [each for each in (*self._refs(recorded), *self._litter(recorded)) if held not in each]

    def repository(self, app: App) -> Path:
        return self._folder.repositories / f"{app.id}.git"

    def git(self, app: App, *words: str) -> str:
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "--git-dir", self.repository(app), *words],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return (done.stdout + done.stderr).strip()

    def _unfinished(self, recorded: Recorded) -> Iterator[str]:
        for each in recorded.operations:
            if not each.finished:
                yield f"operation {each.id} is {each.status}"

    def _refs(self, recorded: Recorded) -> Iterator[str]:
        listed = self.git(recorded.app, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        refs = dict(line.split(" ") for line in listed)
        artifact = recorded.release.artifact if recorded.release else None
        if artifact is None or artifact.commit is None:
            if found := [name for name in DEPLOYING if name in refs]:
                yield f"{found} exist, and no commit runs"
        elif refs.get(artifact.git_ref or "") != artifact.commit:
            yield f"{artifact.git_ref} is {refs.get(artifact.git_ref or '')}, and {artifact.commit} runs"
        if left := [name for name in refs if name.startswith("refs/slipway/operations/")]:
            yield f"{left} hold commits of operations that are over"
        with self._store.read() as connection:
            every = releases.of_app(connection, recorded.app)
        for each in every:
            if each.artifact.commit and refs.get(f"refs/slipway/releases/{each.number}") != each.artifact.commit:
                yield f"the commit of release {each.number} is not held"
        for line in self.git(recorded.app, "fsck", "--strict", "--no-dangling").splitlines():
            if not line.startswith("notice: "):  # that HEAD has no branch yet, of an app that runs an image
                yield f"git fsck: {line}"

    def _litter(self, recorded: Recorded) -> Iterator[str]:
        for path in self.repository(recorded.app).rglob("*"):
            if path.suffix == ".lock" or path.name.startswith("tmp_"):
                yield f"{path} is left over"

    def _containers(self, recorded: Recorded) -> Iterator[str]:
        label = {"label": [f"slipway.instance={self._instance}", f"slipway.app-id={recorded.app.id}"]}
        found = self._engine.containers(all=True, filters=label)
        wanted: Counter[str] = Counter()
        if recorded.release is not None:
            names = [line.partition(":")[0] for line in (recorded.release.artifact.procfile or "cmd:").splitlines()]
            wanted = Counter({name: recorded.services.get(name, NEW_SERVICE).container_count for name in names})
        running = Counter(each["Labels"].get("slipway.service", "one-off") for each in found)
        if running != wanted:
            yield f"containers are {dict(running)}, and should be {dict(wanted)}"
        for each in found:
            try:
                inspected = self._engine.inspect_container(each["Id"])
            except docker.errors.NotFound:
                yield f"{each['Names']} has just been removed"
                continue
            yield from self._container(recorded, inspected)

    def _container(self, recorded: Recorded, container: dict[str, Any]) -> Iterator[str]:
        name = container["Name"]
        if recorded.release is None:
            yield f"{name} is there without a release"
            return
        if container["State"]["Status"] != "running":
            yield f"{name} is {container['State']['Status']}"
        if container["HostConfig"]["RestartPolicy"]["Name"] != "unless-stopped":
            yield f"{name} does not come up again"
        if container["Image"] != recorded.release.artifact.image:
            yield f"{name} runs {container['Image']} instead of {recorded.release.artifact.image}"
        if container["Config"]["Labels"].get("slipway.operation") != str(recorded.app.serving_operation_id):
            yield f"{name} is not of operation {recorded.app.serving_operation_id}, which serves"
        environment = dict(line.split("=", 1) for line in container["Config"]["Env"])
        for key, value in recorded.config.items():
            if key not in NOT_CONFIG and environment.get(key) != value:
                yield f"{name} has {key}={environment.get(key)}, and the config {value}"

    def _answer(self, recorded: Recorded) -> Iterator[str]:
        if recorded.release is None:
            return
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{recorded.app.port}", timeout=ANSWER_SECONDS) as response:
                answer = json.loads(response.read())
        except (OSError, ValueError) as error:
            yield f"the route does not answer: {error}"
            return
        if commit := recorded.release.artifact.commit:
            version = self.git(recorded.app, "show", f"{commit}:version")
            if answer["version"] != version:
                yield f"the route answers with {answer['version']}, and {version} runs"
        for key, value in recorded.config.items():
            if key not in NOT_CONFIG and answer["environment"].get(key) != value:
                yield f"the route answers with {key}={answer['environment'].get(key)}, and the config has {value}"

    def _logs(self, recorded: Recorded) -> Iterator[str]:
        for each in recorded.operations:
            path = self._folder.logs / f"{each.id}.log"
            last = path.read_text().splitlines()[-1:] if path.exists() else ["no log"]
            if each.status in ("failed", "cancelled") and last != [f"Error: {each.error}"]:
                yield f"operation {each.id} has {each.status} with {each.error!r}, and its log ends with {last}"
