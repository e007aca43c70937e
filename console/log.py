"""The server's own log: structlog events on standard error, for a terminal or as JSON lines.

What libraries report by the standard library's logging, from warnings on, becomes such events too, so that a collector
finds nothing else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter


def configure(form: str, process: str) -> None:
    """Set the log up for one process; `form` is console or json, `process` says which process speaks."""

    def name_process(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        # Not a context variable: threads begin without those.
        event.setdefault("process", process)
        return event

    renderer: structlog.typing.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
        errors: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
    else:
        # Plain tracebacks: the prettier ones print local variables, and those may be secrets.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        errors = []
    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*common, *errors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Writes an event and its newline at once. The processes share one log, and where nothing is buffered, as in the
        # image (PYTHONUNBUFFERED), PrintLogger's two writes let another's event in between.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    from_libraries = logging.StreamHandler(sys.stderr)
    from_libraries.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[ProcessorFormatter.remove_processors_meta, *errors, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[from_libraries], force=True)
