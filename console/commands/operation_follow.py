"""`operation:follow`: watch an operation until it ends."""

from __future__ import annotations

import click

from console.grammar import Call, command
from store.operations import Operation


@command("operation:follow")
@click.argument("number", type=click.IntRange(min=1), metavar="OPERATION")
def operation_follow(call: Call, number: int) -> Operation:
    """Show the log of OPERATION from its start until it ends; the exit status tells its outcome."""
    return call.operation(number)
