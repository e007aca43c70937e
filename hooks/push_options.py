"""Push options: what a user asks of a push beside its refs, with `git push -o …` (git-push(1), `--push-option`).

* `config=KEY=VALUE` changes the config in the same operation as the code; an empty value removes the variable.
* `no-deploy` stores a deploying branch instead of deploying it.
* `force-zero-downtime` asks that the new containers of every service be up before the old ones stop.

A config value may be a secret, so options are secrets as long as they have not been read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from store import config
from store.config import Config
from store.errors import UsageError
from store.secret import Secret

KNOWN = ("config=KEY=VALUE", "no-deploy", "force-zero-downtime")
"""What there is, as users write it."""


class PushOptionError(UsageError):
    """A push option is unknown, malformed, or of no use to the push; the whole push is refused."""


@dataclass(frozen=True)
class PushOptions:
    """The options of one push, read."""

    changes: Config = field(default_factory=dict)
    """Config to change with the deploy; an empty value removes its variable."""
    no_deploy: bool = False
    force_zero_downtime: bool = False


def parse(options: Sequence[Secret]) -> PushOptions:
    """Read the options of a push, in their order: of two values for one variable, the later counts.

    Raises PushOptionError, which names the option and never its value.
    """
    pairs: list[str] = []
    flags = {"no-deploy": False, "force-zero-downtime": False}
    for option in options:
        name, equals, value = option.reveal().partition("=")
        if name == "config" and "=" in value:
            pairs.append(value)
        elif name == "config":
            raise PushOptionError("the push option config is written -o config=KEY=VALUE")
        elif name not in flags:
            raise PushOptionError(f"there is no push option {name[:40]!r}; there are {', '.join(KNOWN)}")
        elif equals:
            raise PushOptionError(f"the push option {name} takes no value")
        else:
            flags[name] = True
    try:
        changes = config.parse_pairs(pairs)
    except UsageError as error:
        raise PushOptionError(str(error)) from error
    return PushOptions(changes, no_deploy=flags["no-deploy"], force_zero_downtime=flags["force-zero-downtime"])
