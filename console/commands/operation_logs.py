"""`operation:logs`: what an operation has said so far."""

from __future__ import annotations

import click

from console.grammar import Call, command


@command("operation:logs")
@click.argument("number", type=click.IntRange(min=1), metavar="OPERATION")
def operation_logs(call: Call, number: int) -> None:
    """Print the log of OPERATION as far as it has come."""
    operation = call.operation(number)
    call.printed.append(call.room.operations.logs.read(operation.id))
