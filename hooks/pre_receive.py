"""Policy over a push, before any of its objects become visible.

Named after Git's hook of that name (githooks(5)), and asked at the same moment: all commands and push options are
known, the objects are still in quarantine. Pure functions; who may push at all was decided when the repository was
opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hooks.engine_room import Repository

ZERO = "0" * 40
"""Git's object id for "no object": a ref that is created or deleted."""

RESERVED = "refs/slipway/"
"""Refs that belong to the server: an operation holds its commit there while it runs."""


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


def judge(repository: Repository, updates: Sequence[RefUpdate], options: Sequence[str]) -> list[Verdict]:
    """Return a verdict per update, in their order.

    At most one branch of a push may deploy, since two deploys of one app cannot both be what runs.
    """
    deploying = [update for update in updates if update.ref in repository.deploying_branches]
    verdicts = []
    for update in updates:
        refusal = None
        if options:
            refusal = f"push option '{options[0]}' is not known here"
        elif update.ref.startswith(RESERVED):
            refusal = f"{RESERVED}* belongs to the server; push to a branch or a tag"
        elif not update.ref.startswith(("refs/heads/", "refs/tags/")):
            refusal = "only branches and tags can be pushed"
        elif update in deploying and update.new == ZERO:
            refusal = "a deploying branch says what runs, so it cannot be deleted"
        elif update in deploying and len(deploying) > 1:
            refusal = f"{' and '.join(other.ref for other in deploying)} would both deploy; push one of them"
        verdicts.append(Verdict(update, refusal, deploys=refusal is None and update in deploying))
    return verdicts
