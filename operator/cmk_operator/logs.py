"""Structured log lines, for machines (JSON) or people, in which no token can appear."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import aiohttp
from pythonjsonlogger.json import JsonFormatter

from cmk_operator.core.text.redaction import redacted

_QUIET: Final = ("aiohttp.access", "asyncio", "kopf", "msal", "urllib3")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Rendering(logging.Filter):
    """Formats the message at once. Wrong arguments, for instance from a library, neither lose the line nor fail the caller."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; never drops it."""
        try:
            message = record.getMessage()
        except (KeyError, TypeError, ValueError):
            message = f"{record.msg} {record.args!r}"
        record.msg, record.args = message, None
        return True


class TextFormatter(logging.Formatter):
    """One line for people: time, level, message, and the fields as name=value; redacted as a whole."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        fields = " ".join(f"{name}={value!r}" for name, value in record.__dict__.items() if name not in _STANDARD)
        return redacted(f"{super().format(record)} {fields}".rstrip())


class SafeJsonFormatter(JsonFormatter):
    """JSON lines, redacted as a whole: fields and tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        return redacted(str(super().format(record)))


class OneLineForRefusals(logging.Filter):
    """Shortens kopf's record of a request that the API server refused or did not answer: kopf adds a traceback to it.

    The API server answers 404 to a watch while it loads a definition, and breaks connections when it restarts. The watches are
    started again, so that is no bug. A traceback of any other error stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; never drops it."""
        error = record.exc_info[1] if record.exc_info else None
        # kopf's own errors are not public, but it raises each of them from the one of its HTTP client.
        causes = (error, error.__cause__) if error is not None else ()
        if record.name.partition(".")[0] == "kopf" and any(isinstance(cause, aiohttp.ClientError) for cause in causes):
            record.exc_info, record.exc_text = None, None
        return True


def configure_logging(form: Literal["json", "text"], level: str) -> None:
    """Send all log records to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(SafeJsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names))
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(Rendering())
    handler.addFilter(OneLineForRefusals())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Status reports refused calls. The SDKs would log each of them with its whole answer.
    logging.getLogger("azure").setLevel(max(logging.ERROR, logging.getLevelName(level)))
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
