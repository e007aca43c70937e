"""`rotate-key`: another secret key for the records, while the server runs."""

from __future__ import annotations

from console import rotation
from console.grammar import Call, command
from store.secret import Secret


@command("rotate-key")
def rotate_key(call: Call) -> None:
    """Seal every secret of the records again under a new key (for administrators); the former key is then of no use.

    A server whose key is in its data folder makes the new key itself. One that is given its key by SLIPWAY_SECRET_KEY
    reads the new one from standard input; change the variable before the next start.
    """
    call.print(rotation.rotate_in(call.room.store, lambda: Secret(call.read_input())))
