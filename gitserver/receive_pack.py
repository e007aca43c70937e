"""A push, from the advertisement of refs to the report (git-receive-pack(1)).

Stock servers read the pack, run hooks and move refs. Here the move of a deploying branch is the end of a deploy, done
by the engine room, and this side only reports how that went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gitserver import git_program, inflation, maintenance, ref_transaction, submodules
from gitserver.advertisement import advertisement
from gitserver.command_list import PushProtocol, PushRequest, name_refusal, read_request
from gitserver.connectivity import disconnected
from gitserver.counters import Count, DoorCounters
from gitserver.ingestion import UnpackError, ingest
from gitserver.limits import PushLimitError, PushLimits
from gitserver.quarantine import Quarantine, quarantine
from gitserver.report import report
from gitserver.side_band import SideBand
from gitserver.streams import ClientGoneError, ClientStreams
from gitserver.visible_refs import pushable, read_refs
from hooks.engine_room import CallerGoneError, EngineRoom, Repository, User
from hooks.post_receive import deploy
from hooks.pre_receive import ZERO, RefUpdate, Verdict, judge
from store.errors import SlipwayError


def serve(
    streams: ClientStreams,
    engine_room: EngineRoom,
    user: User,
    repository: Repository,
    log: FilteringBoundLogger,
    limits: PushLimits,
    counters: DoorCounters,
) -> int:
    """Serve one push and return its exit status, which is 0 also where refs are refused: the report says so.

    Raises PushProtocolError, and ClientGoneError or CallerGoneError; nothing of the push is kept then, but a deploy
    that has begun goes on.
    """
    refs = read_refs(repository.path)
    streams.write(advertisement(pushable(refs)))
    protocol = PushProtocol(streams.read, streams.write)
    request = read_request(protocol, limits)
    if request is None:
        return 0
    with SideBand(streams, enabled=b"side-band-64k" in request.capabilities) as band:
        push = _Push(streams, engine_room, user, repository, request, band, limits, log, frozenset(refs.values()))
        try:
            unpack = push.run(protocol)
        except (ClientGoneError, CallerGoneError):
            counters.add(Count.PUSHES_ABANDONED)
            raise
        counters.add(_outcome(push.results))
        log.info("push", unpack=unpack or "ok", results=push.results)
        if request.capabilities & {b"report-status", b"report-status-v2"}:
            elsewhere = push.elsewhere if b"report-status-v2" in request.capabilities else {}
            band.report(report(unpack, push.results, elsewhere))
    if unpack is not None:
        # A client that is still sending reads the report only then; hanging up before would hide the reason from it.
        while streams.read(git_program.CHUNK_BYTES):
            pass
    maintenance.maintain(repository.path)
    return 0


def _outcome(results: Mapping[str, str | None]) -> Count:
    """Return as what a push counts of which each ref was taken (None) or refused."""
    refused = [refusal for refusal in results.values() if refusal is not None]
    if not refused:
        return Count.PUSHES_ACCEPTED
    return Count.PUSHES_REFUSED if len(refused) == len(results) else Count.PUSHES_PARTLY


@dataclass
class _Push:
    """One push, and what has become of each of its refs: `results` has None for done, else why not."""

    streams: ClientStreams
    engine_room: EngineRoom
    user: User
    repository: Repository
    request: PushRequest
    band: SideBand
    limits: PushLimits
    log: FilteringBoundLogger
    held: frozenset[bytes]
    """What refs held when the push began."""
    results: dict[str, str | None] = field(default_factory=dict)
    elsewhere: dict[str, RefUpdate] = field(default_factory=dict)
    """What was done in place of an update, by the ref that the client named."""

    def run(self, protocol: PushProtocol) -> str | None:
        """Do it, and return None, or why the pack was not taken."""
        verdicts = self._judge()
        with quarantine(self.repository.path) as objects:
            try:
                if self.request.has_pack:
                    ingest(
                        self.streams,
                        protocol,
                        self.repository,
                        objects,
                        shallow=self.request.shallow,
                        say=self.band.progress,
                        progress=b"quiet" not in self.request.capabilities,
                        limits=self.limits,
                    )
                with submodules.Search(self.repository.path, objects, self._new_objects()) as search:
                    if not objects.empty:
                        inflation.check_all(objects.folder / "pack", self.limits)
                    self._refuse_broken(objects, verdicts, search)
            except (UnpackError, PushLimitError) as error:
                self.results = {update.ref: "unpacker error" for update in self.request.updates}
                return str(error)
            if self._atomic and any(self.results.values()):
                self._refuse_rest("atomic push failure")
            if not all(self.results.values()):
                objects.accept()
        self._move([verdict for verdict in verdicts if self.results[verdict.update.ref] is None])
        return None

    @property
    def _atomic(self) -> bool:
        return b"atomic" in self.request.capabilities

    def _judge(self) -> list[Verdict]:
        """Ask for the policy of each update, and note what it refuses, and what no Git server would take."""
        verdicts = judge(self.repository, self.request.updates, self.request.options)
        names = Counter(verdict.target for verdict in verdicts)
        for verdict in verdicts:
            ref = verdict.update.ref
            twice = "it is in this push more than once" if names[verdict.target] > 1 else None
            self.results[ref] = name_refusal(verdict.update) or twice or verdict.refusal
        return verdicts

    def _new_objects(self) -> list[str]:
        return [update.new for update in self.request.updates if update.new != ZERO and not self.results[update.ref]]

    def _refuse_broken(self, objects: Quarantine, verdicts: Sequence[Verdict], search: submodules.Search) -> None:
        """Refuse what is left of the updates where it leads nowhere, or to where nobody should be led."""
        left = [v.update for v in verdicts if v.update.new != ZERO and self.results[v.update.ref] is None]
        broken = disconnected(self.repository.path, objects, sorted({update.new for update in left}), self.held)
        reason = "shallow update not allowed" if self.request.shallow else "missing necessary objects"
        for update in left:
            if update.new in broken:
                self.results[update.ref] = reason
            elif update.ref.startswith("refs/heads/") and not objects.is_commit(update.new):
                self.results[update.ref] = "a branch holds a commit, and this object is none"
        unsafe = search.unsafe({update.new for update in left} - broken)
        self.results |= {update.ref: unsafe[update.new] for update in left if update.new in unsafe}

    def _refuse_rest(self, reason: str) -> None:
        self.results = {ref: refusal or reason for ref, refusal in self.results.items()}

    def _move(self, verdicts: Sequence[Verdict]) -> None:
        """Move what may move: an atomic push deploys first and moves the rest if that worked, another the other way."""
        stored = {verdict.update.ref: self._storing(verdict) for verdict in verdicts if not verdict.deploys}
        deployed = [verdict.update for verdict in verdicts if verdict.deploys]
        if not self._atomic:
            self._store(stored)
            for update in deployed:
                self.results[update.ref] = self._deploy(update)
            return
        stale = {ref: self._stale(update) for ref, update in stored.items()}
        stale |= {update.ref: self._stale(update) for update in deployed}
        if any(stale.values()):
            self.results |= stale
        for update in deployed:
            if not any(self.results.values()):
                self.results[update.ref] = self._deploy(update)
        if any(self.results.values()):
            self._refuse_rest("atomic push failure")
        else:
            self._store(stored)

    def _storing(self, verdict: Verdict) -> RefUpdate:
        """Return what is really done for an update that only stores, and note where that is another ref."""
        update = verdict.update
        if verdict.stored_as is None:
            return update
        old = ref_transaction.current(self.repository.path, verdict.stored_as)
        self.elsewhere[update.ref] = RefUpdate(verdict.stored_as, old, update.new)
        return self.elsewhere[update.ref]

    def _store(self, updates: Mapping[str, RefUpdate]) -> None:
        done = ref_transaction.apply(self.repository.path, updates.values(), atomic=self._atomic)
        self.results |= {ref: done[update.ref] for ref, update in updates.items()}
        if moved := [update.ref for update in updates.values() if done[update.ref] is None]:
            self._account_for(moved)
        for ref in [ref for ref in updates if ref in self.elsewhere and self.results[ref] is None]:
            name = self.elsewhere[ref].ref.removeprefix("refs/heads/")
            self.band.progress(
                f"Stored as {name}, and not deployed. To deploy it: "
                f"deploy --app {self.repository.app} --git-commitish {name}\n".encode()
            )

    def _account_for(self, moved: Sequence[str]) -> None:
        """Have it entered in the audit log which refs have moved without an operation."""
        try:
            self.engine_room.stored(self.user, self.repository.app, moved)
        except SlipwayError as error:
            # They have moved, so that is what the report says. The server's log tells it at least.
            self.log.error("push.not_in_audit_log", refs=moved, error=type(error).__name__)

    def _stale(self, update: RefUpdate) -> str | None:
        return (
            None if ref_transaction.current(self.repository.path, update.ref) == update.old else ref_transaction.STALE
        )

    def _deploy(self, update: RefUpdate) -> str | None:
        # The engine room compares again when it moves the branch; asking now saves a deploy that cannot end well.
        return self._stale(update) or deploy(
            self.engine_room,
            self.user,
            self.repository,
            update,
            self.request.options,
            lambda text: self.band.progress(text.encode()),
        )
