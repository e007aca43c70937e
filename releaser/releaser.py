"""The room's front: roll out a release, restore what a crash left, take an app or everything away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MappingProxyType

from releaser.attached import Typed, WriteBytes, run_attached
from releaser.container import Console, Container
from releaser.engine import Engine
from releaser.health import Policy, Say
from releaser.logs import Sink, read
from releaser.one_off import Write, run_once
from releaser.release import Release
from releaser.restore import lead, mend, restore
from releaser.rollout import Rollout, Step
from releaser.route import Certificate, Route
from releaser.router import Router
from releaser.services import Service, services, words
from releaser.terminal import Terminal
from store.errors import SlipwayError
from store.services import NEW_SERVICE

SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")
"""The image's best shell; what is more, such as a log-in shell, it may start itself."""


MOST_COMMANDS = 20
"""Containers of one app that may run somebody's commands at once: each may take as much memory as a service's."""


class TooManyCommandsError(SlipwayError):
    """An app has as many containers for commands as it may have."""


class Releaser:
    """What runs for one instance on one engine. It may be shared by threads, one rollout per app at a time.

    `engine` is the engine's URL, None for the default socket.
    """

    def __init__(self, *, engine: str | None, instance: str, proxy: Router) -> None:
        self._engine = engine
        self._instance = instance
        self._proxy = proxy
        self._left: set[str] = set()
        """Containers for one command that the engine did not remove when they had ended."""

    @contextmanager
    def rollout(
        self, release: Release, *, say: Say, cancelled: threading.Event, step: Step = nullcontext
    ) -> Iterator[Rollout]:
        """Bring a release up around the caller's commit.

        On entry its containers are up and healthy, and the route leads to them; the former ones still run. A normal
        end drains and removes the former ones. An exception, from the body too, brings everything back as it was.
        Each step is taken inside of what `step` makes for its name. Raises SlipwayError: what is wrong with the
        release, or that it was cancelled.
        """
        if release.instance != self._instance:
            raise ValueError(f"a release of {release.instance} is none of {self._instance}")
        with Engine(self._engine) as engine:
            rollout = Rollout(engine, self._proxy, release, say=say, cancelled=cancelled, step=step)
            try:
                rollout.advance()
                yield rollout
            except BaseException:
                rollout.undo()
                raise
            rollout.finish()

    def restore(
        self, current: Sequence[Release], idle: Mapping[int, Route] = MappingProxyType({})
    ) -> dict[int, SlipwayError]:
        """Make the current releases run, and nothing else of this instance; return what went wrong, by app id.

        `idle` are the routes of apps without a release, by app id.

        To be called while no rollout is under way: after a start, which may follow a crash.
        """
        with Engine(self._engine) as engine:
            return restore(engine, self._proxy, self._instance, current, idle)

    def mend(self, current: Release) -> None:
        """Make one app's current release run as `restore` does. Raises SlipwayError.

        To be called while no rollout of this app is under way; those of others do not matter.
        """
        with Engine(self._engine) as engine:
            for identifier in list(self._left):
                engine.remove(identifier)
                self._left.discard(identifier)
            mend(engine, self._proxy, current)

    def announce(self, app_id: int, route: Route) -> None:
        """Let an app without a release tell its visitors so. Raises what `Proxy.lead` raises."""
        lead(self._proxy, app_id, route, {})

    def check_certificate(self, certificate: Certificate) -> None:
        """Raise UsageError for a certificate that the proxy would not take."""
        self._proxy.check_certificate(certificate)

    def keep_proxy(self) -> None:
        """Have the proxy running, if it has died. Raises what `Proxy.start` raises."""
        if not self._proxy.running:
            self._proxy.start()

    def proxy_answers(self) -> bool:
        """Return whether the proxy has a process that takes requests, by its own word."""
        return self._proxy.answers()

    def standing(self) -> frozenset[tuple[str, str]]:
        """Return the ids and states of this instance's containers: what changes when one dies or is taken away."""
        with Engine(self._engine) as engine:
            return frozenset((each.id, each.state) for each in engine.containers(self._instance))

    def check(self, release: Release) -> None:
        """Raise what `rollout` would raise for a release that can never run, before anything is done for it."""
        with Engine(self._engine) as engine:
            services(release, engine.image(release.image))
        Policy.of(release.settings)

    def run_line(
        self, release: Release, name: str, line: str, *, write: Write, cancelled: threading.Event, seconds: float
    ) -> int:
        """Run a hook's line in a container of its own, as a Procfile's would be, and return its exit status.

        See `releaser.one_off.run_once`.
        """
        with Engine(self._engine) as engine:
            command = words(f"the command {line!r} of {name}", line, engine.image(release.image))
            state = run_once(
                engine,
                release,
                name,
                command,
                out=write,
                err=write,
                cancelled=cancelled,
                seconds=seconds,
                avoid=self._proxy.addresses(),
                left=self._left.add,
            )
        if state.out_of_memory:
            limit = NEW_SERVICE.container_memory_mb
            write(f"{name}: a process was killed for using more memory than the {limit} MB that there are\n")
        return state.exit_status

    def run_command(
        self,
        release: Release,
        command: Sequence[str],
        terminal: Terminal | None,
        *,
        typed: Typed,
        out: WriteBytes,
        err: WriteBytes,
        gone: threading.Event,
    ) -> int:
        """Run somebody's command in a container of its own until it ends, or they have gone; return its exit status.

        One word is a line, run as a Procfile's would be; several are handed to the image as they are; none is a shell.
        Raises TooManyCommandsError, and what `releaser.attached.run_attached` raises.
        """
        with Engine(self._engine) as engine:
            if len(engine.one_offs(self._instance, release.app_id)) >= MOST_COMMANDS:
                raise TooManyCommandsError(
                    f"{MOST_COMMANDS} commands run in containers of {release.app} already; end one of them first"
                )
            if len(command) == 1:
                command = words("the command", command[0], engine.image(release.image))
            state = run_attached(
                engine,
                release,
                Service("ssh", tuple(command or SHELL)),
                Console(terminal, bare=not command),
                typed=typed,
                out=out,
                err=err,
                gone=gone,
                avoid=self._proxy.addresses(),
                left=self._left.add,
            )
        return state.exit_status

    def logs(
        self,
        app_id: int,
        *,
        lines: int,
        follow: bool,
        wanted: Callable[[Container], bool],
        sink: Callable[[Container], Sink],
        gone: threading.Event,
    ) -> None:
        """Pass on what an app's containers write; see `releaser.logs.read`."""
        read(self._engine, self._instance, app_id, lines=lines, follow=follow, wanted=wanted, sink=sink, gone=gone)

    def running(self, app_id: int) -> list[Container]:
        """Return an app's containers, whatever their state."""
        with Engine(self._engine) as engine:
            return engine.containers(self._instance, app_id)

    def remove(self, app_id: int) -> None:
        """Take an app's route and containers away."""
        self._proxy.forget(app_id)
        with Engine(self._engine) as engine:
            for container in engine.containers(self._instance, app_id):
                engine.stop(container.id)
                engine.remove(container.id)
            for identifier in engine.one_offs(self._instance, app_id):
                engine.remove(identifier)

    def remove_everything(self) -> None:
        """Take away all that this instance runs: the proxy, every app's containers, the network."""
        self._proxy.remove()
        with Engine(self._engine) as engine:
            for container in engine.containers(self._instance):
                engine.stop(container.id)
                engine.remove(container.id)
            for identifier in engine.one_offs(self._instance):
                engine.remove(identifier)
            engine.remove_network(self._instance)
