"""Logs: structlog, JSON unless on a terminal, secrets redacted whatever somebody logs."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

SECRET_NAMES = re.compile(r"token|password|secret|authorization|api_key|bearer", re.IGNORECASE)
SECRET_TEXTS = re.compile(
    r"(?i)(bearer\s+)[\w\-.~+/=]+|((?:refresh_token|access_token|client_secret|password)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+"
)
NOISY = {"aiokafka": logging.CRITICAL, "aiohttp.access": logging.WARNING, "alembic": logging.WARNING}
"""aiokafka says about sixty things a second while a broker is away; we say it once a try."""


def configure(log_format: str, level: str) -> None:
    """Set up logging for the whole process."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    # Tracebacks are plain text, without the values of variables, and go through redaction like all else.
    tail: list[Any] = [structlog.processors.format_exc_info, redact]
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, *tail, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, renderer],
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.INFO, getattr(logging, level.upper())))
    for name, least in NOISY.items():
        logging.getLogger(name).setLevel(least)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide what a secret's name announces, and what looks like one in any text."""
    for name, value in list(event.items()):
        if SECRET_NAMES.search(name) and isinstance(value, str):
            event[name] = "[redacted]"
        else:
            event[name] = _cleaned(value)
    return event


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return SECRET_TEXTS.sub(lambda found: f"{found.group(1) or found.group(2)}[redacted]", value)
    if isinstance(value, Mapping):
        return {
            key: "[redacted]" if SECRET_NAMES.search(str(key)) else _cleaned(inner) for key, inner in value.items()
        }
    return value
