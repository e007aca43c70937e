"""The engine room's process: it owns the records, runs every operation, and answers front doors."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio.to_thread
import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette

from console import memory
from console.api.application import application
from console.api.asked import Site
from console.api.login import Attempts, TokenKey
from console.api.transport import Transport
from console.grammar import Room, load
from console.housekeeping import keep_house
from console.interface import Interface
from console.key_uses import KeyUses
from console.metrics import Metrics
from console.readiness import Readiness
from console.reconciliation import keep_agreeing, keep_renewed
from console.router import open_router
from console.settings import Settings
from console.supervisor import DISMISSED
from console.watching import Watching
from gitserver.counters import Counters
from gitserver.host_key import load as load_host_key
from gitserver.places import Places
from hooks import steps
from hooks.addresses import Addresses
from hooks.certificates import Certificates
from hooks.log import Logs
from hooks.metrics import StepDurations
from hooks.operations import Operations
from hooks.pipeline import Pipeline
from hooks.unix_http import KEPT_SECONDS
from releaser.acme import Acme, new_account_key
from releaser.haproxy import bindable
from releaser.releaser import Releaser
from store import acme_accounts, rotation
from store.database import Store
from store.reserve import Reserve

log = structlog.get_logger()

CANCEL_SECONDS = 10.0
"""How long cancelled operations get to clear up before the process ends; the next start clears up what they leave."""

LINGER_SECONDS = 5
"""How long answers that are under way may take once everything else has stopped."""

STRANGERS_AT_ONCE = 8
"""Requests of strangers over HTTP that are worked on: enough for two cores, and few for a push to queue behind when all
of them write."""


def _acme(settings: Settings, store: Store) -> Acme | None:
    """Return the account at the certificate authority, made at the first start with one."""
    if settings.acme_directory is None:
        return None
    with store.write() as connection:
        key = acme_accounts.key(connection, store.seal, settings.acme_directory, new_account_key)
    return Acme(settings.acme_directory, key, email=settings.acme_email, ca_file=settings.acme_ca)


def run(
    settings: Settings,
    on_socket: socket.socket,
    on_tcp: socket.socket,
    ready: Callable[[], None],
    counters: Counters,
    places: Places,
) -> None:
    """Serve until SIGTERM, then let running operations finish for `settings.drain` seconds, and go when dismissed.

    `ready` is called once requests are answered. `counters` and `places` are what front doors share.
    """
    memory.give_back()
    load()
    steps.observers.append(StepDurations())
    store = Store.open(settings.data)
    for _ in rotation.finish(store):
        log.info("going on with the replacement of the secret key")
    acme = _acme(settings, store)
    router = open_router(settings, acme.thumbprint if acme else None)
    engine = os.environ.get("DOCKER_HOST")
    addresses = Addresses(
        settings.public_host,
        settings.ssh.port,
        settings.http.port,
        settings.domain,
        settings.https.port if settings.https else None,
        proxied=settings.router != "none",
    )
    releaser = Releaser(engine=engine, instance=store.instance(), proxy=router)
    pipeline = Pipeline(store, settings.data, releaser, addresses, engine, settings.builds)
    reserve = Reserve(settings.data.reserve)
    desk = Operations(
        store,
        Logs(settings.data.logs, reserve, settings.log_days),
        pipeline,
        releaser,
        addresses,
        settings.operations,
        reserve,
        settings.collecting,
    )
    certificates = Certificates(store, releaser, acme, desk.upkeep.mend)
    room = Room(
        store,
        desk,
        pipeline,
        releaser,
        addresses,
        None if settings.domain else settings.ports,
        settings.tcp_ports,
        certificates,
        partial(bindable, settings.http.host),
    )
    desk.recover()
    stopping = threading.Event()
    recovery = threading.Thread(target=keep_agreeing, args=(desk.upkeep, releaser, stopping), name="reconcile")
    recovery.start()
    key_uses = KeyUses(store)
    housekeeping = threading.Thread(
        target=keep_house,
        args=([key_uses.record, desk.collector.look, desk.logs.expire], stopping),
        name="housekeeping",
    )
    housekeeping.start()
    renewal = threading.Thread(target=keep_renewed, args=(certificates, stopping), name="renewal", daemon=True)
    renewal.start()
    watching = Watching(
        Readiness(settings.data, store, desk, releaser, counters),
        Metrics(store, desk, counters, places),
        settings.metrics_token_file,
    )
    interface = Interface(room, watching, key_uses)
    host_key = load_host_key(settings.data.host_key)
    site = Site(
        room,
        TokenKey.load(settings.data.token_key),
        Attempts(),
        f"{host_key.get_name()} {host_key.get_base64()}",
        settings.api_url,
    )
    for_strangers = application(site, watching.routes(trusted=False))
    transport = settings.transport
    uvloop.run(
        _serve(
            _Server(
                _config(interface.on_socket(), timeout_keep_alive=int(2 * KEPT_SECONDS), proxy_headers=False), on_socket
            ),
            _ForStrangers(_config(for_strangers, **transport.options), transport.bounded(on_tcp), transport),
            ready,
            lambda: _drain(desk, settings.drain, stopping),
        )
    )
    recovery.join()
    housekeeping.join()
    store.close()


def _drain(desk: Operations, seconds: float, stopping: threading.Event) -> None:
    stopping.set()
    desk.drain(seconds, CANCEL_SECONDS)


def _config(served: Starlette, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        served,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=LINGER_SECONDS,
        **options,
    )


class _Server(uvicorn.Server):
    """A server on one listening socket that leaves signals alone: two of them share one process."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def answer(self) -> None:
        """Serve until `should_exit` is set."""
        await self.serve(sockets=[self._listener])


class _ForStrangers(_Server):
    """Serves HTTP on an event loop of its own, so that their handshakes hold up no front door.

    It is asyncio's loop and not uvloop's, which accepts connections itself: past the listener that bounds them.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, transport: Transport) -> None:
        super().__init__(config, listener)
        self._transport = transport

    def run_apart(self) -> None:
        """Serve, on the calling thread, until `should_exit` is set."""
        asyncio.run(self.answer())

    async def answer(self) -> None:
        """Serve until `should_exit` is set, with the certificates that there are."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = STRANGERS_AT_ONCE
        self.config.load()
        renewing = asyncio.create_task(self._transport.renew(self.config.ssl)) if self.config.ssl else None
        await super().answer()
        if renewing is not None:
            renewing.cancel()


async def _serve(
    for_front_doors: _Server, for_strangers: _ForStrangers, ready: Callable[[], None], drain: Callable[[], None]
) -> None:
    told, dismissed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_signal_handler(DISMISSED, dismissed.set)
    servers = (for_front_doors, for_strangers)
    serving = asyncio.gather(for_front_doors.answer(), asyncio.to_thread(for_strangers.run_apart))
    try:
        while not all(server.started for server in servers):
            await _unless_over(serving, asyncio.sleep(0.005))
        memory.started()
        ready()
        await _unless_over(serving, told.wait())
        log.info("stopping")
        await asyncio.to_thread(drain)
        await dismissed.wait()
    finally:
        for server in servers:
            server.should_exit = True
    await serving


async def _unless_over(serving: asyncio.Future[Any], other: Coroutine[Any, Any, object]) -> None:
    """Wait for `other`; raise what has ended `serving`, if that comes first."""
    waiting = asyncio.create_task(other)
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        serving.result()
