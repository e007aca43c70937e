"""A repository's refs as its users see them: without those that belong to the server."""

from __future__ import annotations

from dulwich.objects import ObjectID
from dulwich.refs import HEADREF, DiskRefsContainer, Ref

from hooks.pre_receive import RESERVED

_RESERVED = RESERVED.encode()


class VisibleRefs(DiskRefsContainer):
    """Refs on disk, the server's own left out of every listing."""

    def allkeys(self) -> set[Ref]:
        """Return the names of all refs that a client may learn of."""
        return {name for name in super().allkeys() if not name.startswith(_RESERVED)}

    def pushable(self) -> dict[Ref, ObjectID]:
        """Return what receive-pack advertises: all but HEAD, which is nothing that one pushes to."""
        return {name: oid for name, oid in self.as_dict().items() if name != HEADREF}
