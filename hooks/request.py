"""What an operation is asked to do, as it is recorded (sealed) before anything is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from hooks.pre_receive import RefUpdate
from store.operations import Type
from store.secret import Secret


@dataclass(frozen=True)
class Request:
    """One operation's request. Where no field names what to release, it is what runs now."""

    type: Type
    changes: Mapping[str, Secret] = field(default_factory=dict)
    """Config to change with it; an empty value removes its variable."""
    commit: str | None = None
    """The commit to build, 40 hexadecimal digits."""
    push: RefUpdate | None = None
    """The update of a deploying branch that asked for it."""
    image: str | None = None
    """The image to deploy as it is, as the user names it."""
    release: int | None = None
    """The number of the release to go back to."""
    service: str | None = None
    """The service whose settings are to change, as `settings` says."""
    settings: Mapping[str, int | float] = field(default_factory=dict)
    """By the names that the fields of `store.services.ServiceSettings` have. Where no service is named, they are what
    services begin with that the app never had."""
    command: str | None = None
    """What a session runs: a line for the image's shell."""
    force_zero_downtime: bool = False
    """Whether new containers should be up before old ones stop also where no route leads to them."""

    def dump(self) -> bytes:
        """Return the form that is sealed: JSON."""
        return json.dumps(
            {
                "type": self.type,
                "changes": {name: value.reveal() for name, value in self.changes.items()},
                "commit": self.commit,
                "push": self.push and [self.push.ref, self.push.old, self.push.new],
                "image": self.image,
                "release": self.release,
                "service": self.service,
                "settings": dict(self.settings),
                "command": self.command,
                "force_zero_downtime": self.force_zero_downtime,
            }
        ).encode()

    @classmethod
    def load(cls, plain: bytes) -> Request:
        """Read what `dump` wrote."""
        fields = json.loads(plain)
        fields["changes"] = {name: Secret(value) for name, value in fields["changes"].items()}
        fields["push"] = fields["push"] and RefUpdate(*fields["push"])
        return cls(**fields)
