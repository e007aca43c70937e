"""The server's own log: structlog events on standard error, for a terminal or as JSON lines."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(form: str, process: str) -> None:
    """Set the log up for one process; `form` is console or json, `process` says which process speaks."""
    renderer: structlog.typing.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
        errors: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
    else:
        # Plain tracebacks: the prettier ones print local variables, and those may be secrets.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        errors = []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *errors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)
