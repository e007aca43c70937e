"""`/metrics` for Prometheus: what the rooms have counted, what front doors share, and how everything is at the moment.

Rooms count what happens in them, in modules of this name. Here is what is asked when somebody collects.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from console.readiness import Answer
from gitserver.counters import Count, Counters
from gitserver.places import Places
from hooks.operations import Operations
from store import apps
from store.database import Store

CONTENT_TYPE = CONTENT_TYPE_LATEST

_REFUSALS = {
    "all_places_taken": Count.REFUSED_FULL,
    "address_has_too_many": Count.REFUSED_ADDRESS,
    "too_many_logging_in": Count.REFUSED_STRANGERS,
}
_PUSHES = {
    "accepted": Count.PUSHES_ACCEPTED,
    "partly_accepted": Count.PUSHES_PARTLY,
    "refused": Count.PUSHES_REFUSED,
    "abandoned": Count.PUSHES_ABANDONED,
}
_CONTAINER_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
"""Docker Engine API, "ContainerSummary", `State`. All of them are told, so that none comes out of nothing."""

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """Everything that is measured, of one server."""

    def __init__(self, store: Store, desk: Operations, counters: Counters, places: Places) -> None:
        self._store = store
        self._desk = desk
        self._counters = counters
        self._places = places

    def exposition(self, answer: Answer) -> bytes:
        """Return all of it in Prometheus' text format; `answer` is how the server is."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once([*self._now(answer), *self._front_doors(), *self._processes()]))
        return generate_latest(REGISTRY) + generate_latest(registry)

    def _now(self, answer: Answer) -> Iterator[Metric]:
        yield _gauge("slipway_ready", "Whether /readyz says that the server can do its work.", int(answer.ready))
        up = GaugeMetricFamily("slipway_up", "Whether a part of the server can do its work.", labels=["part"])
        for part, problem in answer.problems.items():
            up.add_metric([part], int(problem is None))
        yield up
        yield _gauge("slipway_front_doors", "Processes that serve SSH.", answer.front_doors)
        info = GaugeMetricFamily("slipway_build_info", "The version that serves.", labels=["version"])
        info.add_metric([metadata.version("slipway")], 1)
        yield info
        yield _gauge("slipway_operations_queued", "Operations that wait for their turn.", self._desk.queued)
        yield _gauge("slipway_operations_running", "Operations that run.", self._desk.running)
        containers = GaugeMetricFamily("slipway_containers", "Containers of apps, by state.", labels=["state"])
        for state in sorted({*_CONTAINER_STATES, *answer.containers}):
            containers.add_metric([state], answer.containers.get(state, 0))
        yield containers
        with self._store.read() as connection:
            everything = apps.everywhere(connection)
        deployed = sum(app.serving_operation_id is not None for app in everything)
        states = GaugeMetricFamily("slipway_apps", "Apps, by whether they have been deployed yet.", labels=["state"])
        states.add_metric(["deployed"], deployed)
        states.add_metric(["pending"], len(everything) - deployed)
        yield states

    def _front_doors(self) -> Iterator[Metric]:
        total = self._counters.total
        strangers, taken = self._places.strangers(), len(self._places.taken())
        now = GaugeMetricFamily("slipway_ssh_connections", "SSH connections that are open.", labels=["state"])
        now.add_metric(["logging_in"], strangers)
        now.add_metric(["logged_in"], taken - strangers)
        yield now
        yield _counter(
            "slipway_ssh_connections_accepted", "SSH connections that got a place.", total(Count.CONNECTIONS)
        )
        refused = CounterMetricFamily(
            "slipway_ssh_connections_refused", "SSH connections that got no place, by reason.", labels=["reason"]
        )
        for reason, count in _REFUSALS.items():
            refused.add_metric([reason], total(count))
        yield refused
        logins = CounterMetricFamily(
            "slipway_ssh_authentications", "Logins, and keys that nobody has.", labels=["result"]
        )
        logins.add_metric(["accepted"], total(Count.LOGINS))
        logins.add_metric(["unknown_key"], total(Count.UNKNOWN_KEYS))
        yield logins
        moved = CounterMetricFamily(
            "slipway_ssh_bytes", "Bytes of SSH sessions, Git's above all, without SSH's own part.", labels=["direction"]
        )
        moved.add_metric(["received"], total(Count.BYTES_RECEIVED))
        moved.add_metric(["sent"], total(Count.BYTES_SENT))
        yield moved
        yield _counter("slipway_git_fetches", "Clones and fetches.", total(Count.FETCHES))
        yield _counter("slipway_ssh_commands", "Commands over SSH.", total(Count.COMMANDS))
        pushes = CounterMetricFamily("slipway_git_pushes", "Pushes, by what became of their refs.", labels=["result"])
        for result, count in _PUSHES.items():
            pushes.add_metric([result], total(count))
        yield pushes

    def _processes(self) -> Iterator[Metric]:
        processes = {"supervisor": os.getppid(), "engine": os.getpid()}
        processes |= {f"front-{number}": sign.process for number, sign in enumerate(self._counters.signs())}
        memory = GaugeMetricFamily(
            "slipway_process_resident_memory_bytes", "Memory, shared pages counted in each.", labels=["process"]
        )
        descriptors = GaugeMetricFamily("slipway_process_open_fds", "Open file descriptors.", labels=["process"])
        threads = GaugeMetricFamily("slipway_process_threads", "Threads.", labels=["process"])
        cpu = CounterMetricFamily("slipway_process_cpu_seconds", "Processor time used.", labels=["process"])
        for name, process in processes.items():
            try:
                folder = Path(f"/proc/{process}")
                # The name, in parentheses, may hold spaces (proc(5), /proc/PID/stat).
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                files = sum(1 for _ in (folder / "fd").iterdir())
            except OSError:
                continue  # it has just ended
            memory.add_metric([name], int(fields[21]) * _PAGE_BYTES)
            threads.add_metric([name], int(fields[17]))
            cpu.add_metric([name], (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS)
            descriptors.add_metric([name], files)
        yield from (memory, descriptors, threads, cpu)


class _Once(Collector):
    """Hands out what has been collected already."""

    def __init__(self, collected: Iterable[Metric]) -> None:
        self._collected = list(collected)

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        return self._collected


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_text, value=value)
