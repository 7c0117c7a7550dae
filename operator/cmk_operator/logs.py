"""Structured log lines, for machines (JSON) or people, in which no token can appear."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final, Literal

from pythonjsonlogger.json import JsonFormatter

_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?|(?i:bearer)\s+[A-Za-z0-9._~+/-]{20,}=*")
_QUIET: Final = ("aiohttp.access", "asyncio", "kopf", "msal", "urllib3")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Redaction(logging.Filter):
    """Blots out anything that looks like a JSON Web Token, wherever it comes from."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; never drops it."""
        record.msg = redacted(record.getMessage())
        record.args = None
        for name, value in record.__dict__.items():
            if name not in _STANDARD and isinstance(value, str):
                record.__dict__[name] = redacted(value)
        return True


def redacted(text: str) -> str:
    """`text` without tokens."""
    return _TOKEN.sub("[token]", text)


class TextFormatter(logging.Formatter):
    """One line for people: time, level, message, and the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        fields = " ".join(f"{name}={value!r}" for name, value in record.__dict__.items() if name not in _STANDARD)
        return f"{super().format(record)} {fields}".rstrip()


class SafeJsonFormatter(JsonFormatter):
    """JSON lines whose tracebacks are redacted as well."""

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - the library's signature
        """Render a traceback without tokens."""
        return redacted(str(super().formatException(ei)))


def configure_logging(form: Literal["json", "text"], level: str) -> None:
    """Send all log records to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(SafeJsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names))
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(Redaction())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Refused calls are facts that status tells; the SDKs would log each with its whole answer.
    logging.getLogger("azure").setLevel(max(logging.ERROR, logging.getLevelName(level)))
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
