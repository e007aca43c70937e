"""`slipway doctor`: looks at everything that a server needs, and says what is wrong and what to do about it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import text

from builder import choice
from builder.engine import session
from builder.limits import size
from console import leftovers
from console.privileges import check_engine, check_port
from console.settings import Settings
from gitserver import git_program
from hooks.repository import BareRepository
from releaser import certificate
from releaser.engine import DEFAULT_URL, Engine, EngineUnreachableError
from store import apps, configs, endpoints, releases
from store.database import Store
from store.errors import SlipwayError
from store.tables import now

LEAST_FREE_BYTES = 2 << 30
"""Room for a few images and logs; below it builds begin to fail halfway."""

EXPIRY_NEAR = timedelta(days=21)
"""Managed certificates are renewed before that, so one that is left has a reason; others need their owner's time."""

RUNNING = "it is running"

FSCK_SECONDS = 600
"""After which the examination of one repository is given up."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `problem` None is well; else what is wrong and what to do."""

    subject: str
    problem: str | None
    detail: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield findings, each as soon as it is made. Nothing is changed."""
    yield _finding("data folder", lambda: _data_folder(settings))
    yield _finding("disk", lambda: _disk(settings.data.root))
    yield _finding("engine", _engine)
    yield _finding("build limits", lambda: _limits(settings))
    if settings.router == "haproxy":
        yield _finding("proxy", lambda: _proxy(settings))
    yield _finding("git", lambda: _program("git", "fast pushes and clones", "--version"))
    yield _finding("server", lambda: _serving(settings.data.lock))
    try:
        store = Store.open(settings.data)
    except SlipwayError as error:
        yield Finding("records", str(error))
        return
    try:
        yield _finding("records", lambda: _records(store))
        yield _finding("clock", lambda: _clock(store))
        yield _finding("orphans", lambda: _orphans(store, settings))
        yield _finding("certificates", lambda: _certificates(store))
        yield from _apps(store, settings)
    finally:
        store.close()


def _finding(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, None, look())
    except SlipwayError as error:
        return Finding(subject, str(error))
    except OSError as error:
        return Finding(subject, f"it cannot be looked at: {error}")


def _limits(settings: Settings) -> str:
    builds = settings.builds
    with session(os.environ.get("DOCKER_HOST"), threading.Event()) as client:
        if choice.limited(builds, client):
            memory = size(settings.build_memory) if settings.build_memory else "without limit"
            return f"memory {memory}, processors {settings.build_cpus or 'all'}"
    raise _ProblemError(
        "BuildKit's builds are not limited in memory and processors, which takes a server that runs as root on the "
        "engine's machine; run it so, set SLIPWAY_BUILDER=classic, or set both limits to none"
    )


class _ProblemError(SlipwayError):
    """What a look has found."""


def _data_folder(settings: Settings) -> str:
    data = settings.data
    data.require()
    data.require_private()
    return str(data.root)


def _disk(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise _ProblemError(f"only {free >> 20:,} MiB are free below {folder}; builds and pushes will soon fail")
    return f"{free >> 30:,} GiB free"


def _engine() -> str:
    url = os.environ.get("DOCKER_HOST")
    check_engine(url)
    with Engine(url):
        return url or DEFAULT_URL


def _proxy(settings: Settings) -> str:
    found = _program("haproxy", "routes", "-v")
    # A server that runs was perhaps given more than whoever asks here has.
    if settings.domain and _serving(settings.data.lock) != RUNNING:
        check_port(settings.http.port)
    return found


def _program(name: str, purpose: str, *question: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise _ProblemError(f"{name} is missing, which is needed for {purpose}; install the package {name}")
    said = subprocess.run([path, *question], capture_output=True, text=True, timeout=10, check=False).stdout
    return said.splitlines()[0] if said else path


def _certificates(store: Store) -> str:
    with store.read() as connection:
        known = [
            each
            for app in apps.everywhere(connection)
            for each in endpoints.of_app(connection, store.seal, app)
            if each.certificate is not None
        ]
    ending = []
    for each in known:
        if each.certificate is None:
            continue
        end = certificate.validity(each.certificate)[1]
        if end - now() < EXPIRY_NEAR:
            why = f" ({each.renewal_error})" if each.renewal_error else ""
            ending.append(f"{each.name} on {end:%Y-%m-%d}{why}")
    if ending:
        raise _ProblemError(
            f"certificates end soon: {', '.join(ending)}; renew them with endpoints:modify --certificate -, "
            "or endpoints:renew where they are managed"
        )
    return f"{len(known)} certificates"


def _serving(lock: Path) -> str:
    if not lock.exists():
        return "it has never been started"
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return RUNNING
    return "it is not running"


def _records(store: Store) -> str:
    with store.read() as connection:
        damage = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check"))]
        orphans = len(connection.execute(text("PRAGMA foreign_key_check")).all())
        count = len(apps.everywhere(connection))
    if damage != ["ok"] or orphans:
        raise _ProblemError(f"the database is damaged ({damage[0]}, {orphans} orphans); restore a backup")
    return f"{count} apps"


def _clock(store: Store) -> str:
    moment = now()
    if behind := leftovers.clock_behind(store, moment):
        raise _ProblemError(
            f"it is {behind.total_seconds():,.0f} s behind what has been recorded already, so keys and certificates "
            "expire at the wrong time; set it, best by NTP (timedatectl set-ntp true)"
        )
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _orphans(store: Store, settings: Settings) -> str:
    if left := leftovers.in_folder(store, settings.data):
        raise _ProblemError(
            f"{len(left)} in the data folder belong to nothing, among them {left[0]}; look at them, and remove them"
        )
    try:
        containers = leftovers.on_engine(store, os.environ.get("DOCKER_HOST"))
    except EngineUnreachableError:
        return "none in the data folder; the engine cannot be asked"
    if containers:
        raise _ProblemError(
            f"containers of this server belong to no app: {', '.join(containers)}; remove them with: docker rm -f ID"
        )
    return "none"


def _apps(store: Store, settings: Settings) -> Iterator[Finding]:
    with store.read() as connection:
        everything = apps.everywhere(connection)
    for app in everything:
        yield _finding(f"app {app.handle}", partial(_app, store, settings, app))


def _app(store: Store, settings: Settings, app: apps.App) -> str:
    with store.read() as connection:
        configs.current(connection, store.seal, app)  # raises SealError if it does not open
        release = releases.current(connection, app)
    repository = BareRepository(settings.data.repositories / f"{app.id}.git")
    if not (repository.path / "HEAD").exists():
        raise _ProblemError(f"its repository {repository.path} is gone; restore a backup")
    commit = release.artifact.commit if release else None
    branch = release.artifact.git_ref if release else None
    if commit and branch and repository.branches().get(branch) != commit:
        raise _ProblemError(
            f"{branch} does not point at the commit that runs, {commit[:12]}; mend it with: rebuild --app {app.handle}"
        )
    if git_program.installed():
        words = ["git", "-C", str(repository.path), "fsck", "--no-progress", "--no-dangling"]
        environment = git_program.environment()
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=FSCK_SECONDS, check=False)
        if done.returncode:
            first = (done.stderr or done.stdout).splitlines()[:1]
            raise _ProblemError(f"git fsck finds its repository damaged ({''.join(first)}); restore a backup")
    return f"release {release.number}" if release else "not deployed yet"
