"""Policy over a push, before any of its objects become visible.

Named after Git's hook of that name (githooks(5)), and asked at the same moment: all commands and push options are
known, the objects are still in quarantine. Pure functions; who may push at all was decided when the repository was
opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hooks import push_options
from hooks.engine_room import Repository
from hooks.push_options import PushOptionError, PushOptions
from store.secret import Secret

ZERO = "0" * 40
"""Git's object id for "no object": a ref that is created or deleted."""

RESERVED = "refs/slipway/"
"""Refs that belong to the server: an operation holds its commit there while it runs."""

STORED = "refs/heads/stored/"
"""Where a deploying branch goes that is pushed with `no-deploy`: its own name must go on saying what runs."""


@dataclass(frozen=True)
class RefUpdate:
    """One command of a push (gitprotocol-pack(5), "Reference Update Request")."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class Verdict:
    """What becomes of one command: refused with a reason, deployed, or just stored."""

    update: RefUpdate
    refusal: str | None = None
    deploys: bool = False
    stored_as: str | None = None
    """The ref that is moved in place of the one that was named, without regard to what it was."""

    @property
    def target(self) -> str:
        """The ref that is moved."""
        return self.stored_as or self.update.ref


def judge(repository: Repository, updates: Sequence[RefUpdate], options: Sequence[Secret]) -> list[Verdict]:
    """Return a verdict per update, in their order. An option that is no use refuses them all.

    At most one branch of a push may deploy, since two deploys of one app cannot both be what runs.
    """
    deploying = [update for update in updates if update.ref in repository.deploying_branches]
    try:
        wanted = push_options.parse(options)
        _require_use(wanted, deploys=bool(deploying) and not wanted.no_deploy)
    except PushOptionError as error:
        return [Verdict(update, str(error)) for update in updates]
    return [_verdict(update, deploying, wanted) for update in updates]


def _require_use(options: PushOptions, *, deploys: bool) -> None:
    """Raise PushOptionError for options that would silently do nothing."""
    for given, name in ((options.changes, "config"), (options.force_zero_downtime, "force-zero-downtime")):
        if given and not deploys:
            raise PushOptionError(
                f"the push option {name} goes with a deploy, and this push deploys nothing; "
                "leave it out, or push to a deploying branch without no-deploy"
            )


def _verdict(update: RefUpdate, deploying: Sequence[RefUpdate], options: PushOptions) -> Verdict:
    if update.ref.startswith(RESERVED):
        return Verdict(update, f"{RESERVED}* belongs to the server; push to a branch or a tag")
    if not update.ref.startswith(("refs/heads/", "refs/tags/")):
        return Verdict(update, "only branches and tags can be pushed")
    if update not in deploying:
        return Verdict(update)
    if update.new == ZERO:
        return Verdict(update, "a deploying branch says what runs, so it cannot be deleted")
    if options.no_deploy:
        return Verdict(update, stored_as=STORED + update.ref.removeprefix("refs/heads/"))
    if len(deploying) > 1:
        both = " and ".join(other.ref for other in deploying)
        return Verdict(update, f"{both} would both deploy; push one of them")
    return Verdict(update, deploys=True)
