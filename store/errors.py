"""The root of the errors that a person meets.

Each room derives its own classes close to the code that raises them. A message is one sentence or two that say what
happened, to what, and what to do now; it is shown as it is, over SSH, in `git push`, over HTTP and on a terminal, so it
never contains a secret.
"""

from __future__ import annotations


class SlipwayError(Exception):
    """Something that a person should read. Nothing was changed, unless the message says so."""

    exit_status = 1
    """Exit status of the command that ends with this error, 0 to 255."""


class UsageError(SlipwayError):
    """The words of a command, or the value of a setting, are off."""

    exit_status = 2


class RefusedError(SlipwayError):
    """Who is asking may not do this, or must not learn whether it exists."""

    exit_status = 3


class CancelledError(SlipwayError):
    """Somebody asked for the operation to stop, and it stopped."""
