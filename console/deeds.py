"""What the audit log tells about a command: of its words those that cannot be secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.audit import Deed, Origin
from store.errors import UsageError
from store.handles import check_handle
from store.users import User

UNRECORDED = frozenset(
    {
        "access", "apps", "apps:show", "audit", "endpoints", "environments", "keys", "logs", "operation:follow",
        "operation:logs", "operations", "releases", "services", "tokens", "users", "whoami", "git-upload-pack",
    }
)  # fmt: skip
"""Commands that change nothing and show no config; of these only refusals are entered."""

TOLD = (
    "name", "names", "role", "environment", "environments", "expires", "fingerprint", "admin", "number", "service",
    "container_count", "container_size", "cpu_limit", "force_zero_downtime", "simple_health_check", "host",
    "new_handle", "git_commitish", "git_detach", "keep", "dry_run",
)  # fmt: skip
"""Parameters of commands whose values are entered, once the command has done what they say."""

PAIRS = "pairs"
"""The parameter that holds `KEY=VALUE` words. Their names are entered."""


def deed_of(user: User, origin: Origin, name: str, words: Mapping[str, Any]) -> Deed:
    """Return what a command is about to do, for the audit log."""
    told = [f"{key.replace('_', '-')}={_shown(words[key])}" for key in TOLD if words.get(key) not in (None, (), False)]
    if pairs := words.get(PAIRS):
        told.append("config=" + ",".join(word.partition("=")[0] for word in pairs))
    return Deed(
        user=user.name,
        origin=origin,
        action=name,
        detail=" ".join(told) or None,
        app=named_app(words.get("handle")),
        to_enter=name not in UNRECORDED,
    )


def named_app(handle: str | None) -> str | None:
    """Return the name that somebody gave to an app, if it can be one; anything else may be a slip of the hand."""
    try:
        return handle and check_handle(handle, "an app's name")
    except UsageError:
        return None


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
