"""Every way to set off an operation, and what has to have changed when it has succeeded."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from demo.person import Person
from tests.stories import web_app
from tests.world.agreement import Recorded
from tests.world.background import Background, BackgroundPush
from tests.world.gated_server import Boundary
from tests.world.working_copy import Repo

PROCFILE = "web: exec python3 -u server.py\nworker: exec sleep 100000\n"

HOOKS = 'before_deploy:\n  - "true"\nafter_deploy_success:\n  - "true"\nafter_deploy_failure:\n  - "true"\n'

_numbers = itertools.count(1)


class App:
    """An app that operations are asked of."""

    def __init__(self, person: Person, name: str, base: str) -> None:
        self.person = person
        self.name = name
        self.mark = 0
        """The number of the operation that was asked for last, among all apps; what it deploys says it."""
        assert person.ssh("apps:create", name).returncode == 0
        self.repo = Repo(person, name)
        dockerfile = f'FROM {base}\nWORKDIR /app\nEXPOSE 8080\nCMD ["python3", "-u", "server.py"]\nCOPY . .\n'
        self.repo.commit({"Dockerfile": dockerfile, "server.py": web_app.SERVER, "Procfile": PROCFILE})

    def deploy(self) -> None:
        """Let the app run something."""
        self.commit()
        done = self.repo.push()
        assert done.returncode == 0, done.stderr

    def commit(self, **files: str | None) -> None:
        """Commit a version that tells the mark."""
        self.mark = next(_numbers)
        hooks = self.repo.folder / ".aptible.yml"
        gone: dict[str, str | None] = {".aptible.yml": None} if hooks.exists() else {}
        self.repo.commit({**gone, "version": str(self.mark), **files})

    def broken(self, **files: str) -> None:
        """Commit a version that cannot run to the branch `broken`, and leave the working copy as it was."""
        self.repo.git_ok("checkout", "--quiet", "-B", "broken")
        self.commit(**files)
        self.repo.git_ok("checkout", "--quiet", "master")

    def ask(self, command: str) -> Background:
        """Ask the server for something in the background; the command says `{mark}` where the mark belongs."""
        self.mark = next(_numbers)
        return Background(self.person, "ssh", "slipway", command.format(app=self.name, mark=self.mark))


@dataclass(frozen=True)
class Kind:
    """A way to set off an operation, and what has changed when it has succeeded."""

    name: str
    type: str
    begin: Callable[[App], Background]
    changed: Callable[[App, Recorded, Recorded], bool]
    """Whether the records tell what was asked for, of the app, before and after it."""
    deployed: bool = True
    """Whether the app has to run something before."""
    fresh: bool = False
    """Whether it takes an app of its own, which no other operation has been asked of."""
    behind: Boundary | None = None
    """Where an operation of the app is held before, so that this one has to wait."""
    cancelled_at: Boundary | None = None
    """Where it is cancelled."""

    def __str__(self) -> str:
        return self.name


def _push(app: App) -> Background:
    app.commit()
    return BackgroundPush(app.repo)


def _push_with_config(app: App) -> Background:
    app.commit()
    return BackgroundPush(app.repo, "-o", f"config=MARK={app.mark}", "master")


def _commitish(app: App) -> Background:
    app.commit(**{".aptible.yml": HOOKS})
    assert app.repo.push("--force", "master:next").returncode == 0
    command = f"deploy --app {app.name} --git-commitish next MARK={app.mark}"
    return Background(app.person, "ssh", "slipway", command)


def _broken_build(app: App) -> Background:
    dockerfile = (app.repo.folder / "Dockerfile").read_text()
    app.broken(Dockerfile=f"{dockerfile}RUN false\n")
    return BackgroundPush(app.repo, "broken:master")


def _broken_start(app: App) -> Background:
    app.broken(**{"server.py": "raise SystemExit('broken on purpose')\n"})
    return BackgroundPush(app.repo, "broken:master")


def _asking(command: str) -> Callable[[App], Background]:
    return lambda app: app.ask(command)


def _releases(after: Recorded, before: Recorded) -> int:
    return (after.release.number if after.release else 0) - (before.release.number if before.release else 0)


def _config(app: App, before: Recorded, after: Recorded) -> bool:
    return after.config.get("MARK") == str(app.mark) and _releases(after, before) == (1 if before.release else 0)


def _released(app: App, before: Recorded, after: Recorded) -> bool:
    return _releases(after, before) == 1


def _both(app: App, before: Recorded, after: Recorded) -> bool:
    return _released(app, before, after) and _config(app, before, after)


def _same_release(app: App, before: Recorded, after: Recorded) -> bool:
    return _releases(after, before) == 0 and after.app.serving_operation_id != before.app.serving_operation_id


def _never(app: App, before: Recorded, after: Recorded) -> bool:
    return False


def kinds(image: str) -> list[Kind]:
    """Return every kind of operation; `image` is one that can be deployed as it is."""
    at_health = Boundary("deploy", "before", "health")
    return [
        Kind("push", "deploy", _push, _released),
        Kind("push with config", "deploy", _push_with_config, _both),
        Kind("commitish with config and hooks", "deploy", _commitish, _both),
        Kind(
            "image", "deploy", _asking(f"deploy --app {{app}} --git-detach --docker-image {image} MARK={{mark}}"), _both
        ),
        Kind("configure", "configure", _asking("config:set --app {app} MARK={mark}"), _config),
        Kind(
            "first config",
            "configure",
            _asking("config:set --app {app} MARK={mark}"),
            _config,
            deployed=False,
            fresh=True,
        ),
        Kind("deprovision", "deprovision", _asking("apps:deprovision --app {app}"), _never, fresh=True),
        Kind("restart", "restart", _asking("restart --app {app}"), _same_release),
        Kind("rebuild", "rebuild", _asking("rebuild --app {app}"), _released),
        Kind("scale", "scale", _asking("apps:scale --app {app} worker --container-count 2"), _same_release),
        Kind("rollback", "rollback", _asking("rollback --app {app} 1"), _released),
        Kind("broken build", "deploy", _broken_build, _never),
        Kind("broken start", "deploy", _broken_start, _never),
        Kind("cancelled", "deploy", _push, _released, cancelled_at=at_health),
        Kind(
            "cancelled while it waits",
            "configure",
            _asking("config:set --app {app} MARK={mark}"),
            _config,
            behind=Boundary("restart", "before", "plan"),
        ),
    ]
