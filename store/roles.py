"""Roles: how much somebody may do with an app, or with every app of an environment."""

from __future__ import annotations

from enum import IntEnum

from store.errors import RefusedError, UsageError


class Role(IntEnum):
    """What one may do; each role includes those below it. `console.access` tells what each is enough for."""

    READ = 1
    DEPLOY = 2
    ADMIN = 3

    def __str__(self) -> str:
        """Return the role as people write it, and as the records hold it."""
        return self.name.lower()

    @classmethod
    def named(cls, name: str) -> Role:
        """Return a role by its name; raises UsageError for a word that names none."""
        for role in cls:
            if str(role) == name:
                return role
        raise UsageError(f"{name[:40]!r} is not a role; choose one of {', '.join(map(str, cls))}")


class RoleTooLowError(RefusedError):
    """Somebody reaches an app or environment, and may not do this with it."""

    def __init__(self, who: str, where: str, held: Role, need: Role) -> None:
        """Tell what is needed on `where`, a noun with the name of an app or environment."""
        super().__init__(
            f"this takes the role {need} on the {where}, and yours is {held}; "
            f"somebody with the role {Role.ADMIN} there can grant it: "
            f"access:grant {who} --{where} --role {need}"
        )
