"""Who may do what: every command and Git service, each in exactly one of three tables.

Whoever answers asks here, by whichever door the request came. A word that is in no table takes the highest role; a test
holds the tables against the grammar.
"""

from __future__ import annotations

from collections.abc import Mapping

from store.errors import RefusedError
from store.roles import Role
from store.users import User

ON_APPS: Mapping[str, Role] = {
    # Look: what there is, what it does, what became of it. No config values.
    "git-upload-pack": Role.READ,
    "apps:show": Role.READ,
    "endpoints": Role.READ,
    "logs": Role.READ,
    "operation:follow": Role.READ,
    "operation:logs": Role.READ,
    "operations": Role.READ,
    "releases": Role.READ,
    "services": Role.READ,
    # Change what runs, and see what it runs with.
    "git-receive-pack": Role.DEPLOY,
    "apps:scale": Role.DEPLOY,
    "config": Role.DEPLOY,
    "config:get": Role.DEPLOY,
    "config:set": Role.DEPLOY,
    "config:unset": Role.DEPLOY,
    "deploy": Role.DEPLOY,
    "operation:cancel": Role.DEPLOY,
    "rebuild": Role.DEPLOY,
    "restart": Role.DEPLOY,
    "rollback": Role.DEPLOY,
    "services:settings": Role.DEPLOY,
    "ssh": Role.DEPLOY,
    # Change what it is, where it answers, and who reaches it.
    "access:grant": Role.ADMIN,
    "access:revoke": Role.ADMIN,
    "apps:create": Role.ADMIN,
    "apps:deprovision": Role.ADMIN,
    "apps:rename": Role.ADMIN,
    "audit": Role.ADMIN,
    "endpoints:create": Role.ADMIN,
    "endpoints:modify": Role.ADMIN,
    "endpoints:remove": Role.ADMIN,
    "endpoints:renew": Role.ADMIN,
}
"""The least role on the app that it is about, or in its environment."""

ANYBODY = frozenset(
    {
        "access",
        "apps",
        "environments",
        "keys",
        "keys:add",
        "keys:remove",
        "tokens",
        "tokens:revoke",
        "users:password",
        "whoami",
    }
)
"""What shows and changes only what belongs to whoever asks."""

ADMINISTRATORS = frozenset({"environments:create", "gc", "rotate-key", "users", "users:add", "users:remove"})
"""What is about the whole server."""


def needed(action: str) -> Role:
    """Return the least role for a command, or for git-upload-pack or git-receive-pack."""
    return ON_APPS.get(action, Role.ADMIN)


def check(user: User, action: str) -> None:
    """Raise RefusedError if an action is for server administrators and the user is none."""
    if action in ADMINISTRATORS and not user.admin:
        raise RefusedError(f"{action} is for administrators of the server; `whoami` tells who you are")
