"""`operation:cancel`: stop an operation that waits or runs."""

from __future__ import annotations

import click

from console.grammar import Call, command


@command("operation:cancel")
@click.argument("number", type=click.IntRange(min=1), metavar="OPERATION")
def operation_cancel(call: Call, number: int) -> None:
    """Cancel OPERATION. What runs goes on running as it was; its build or its new containers are removed."""
    call.room.operations.cancel(call.operation(number))
    call.print(f"Cancelling operation {number}.")
