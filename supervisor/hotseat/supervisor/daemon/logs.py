"""Structured logs: JSON lines in a file, readable lines for a terminal. Never prompts.

Events are dotted and past tense (`swap.started`), facts are keys.
"""

import io
import logging
import logging.handlers
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.typing import Processor

from hotseat.protocol.limits import MIB

FILES: Final = 5
FILE_BYTES: Final = 20 * MIB
SERVICE_LOG: Final = "service.err"
"""In the logs folder: what launchd catches of the daemon's stdout and stderr."""
SERVICE_VARIABLE: Final = "HOTSEAT_SERVICE"
"""Set by the property list to the label of the job."""
_PRIVATE: Final = frozenset(
    {"append", "body", "completion", "content", "messages", "prompt", "reply", "text", "tokens"}
)
"""Keys under which a conversation could get into a log; numbers under them are sizes."""


def configure_logs(log_file: Path, *, is_foreground: bool, is_verbose: bool = False) -> None:
    """Sends every logger of the process to `log_file`, and to stderr in the foreground."""
    handlers: list[logging.Handler] = [_file_handler(log_file)]
    if is_foreground:
        handlers.append(_terminal_handler())
    root = logging.getLogger()
    for before in list(root.handlers):
        root.removeHandler(before)
        before.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.DEBUG if is_verbose else logging.INFO)
    # A full disk must not fill the terminal with tracebacks of the logger itself.
    logging.raiseExceptions = False
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def hide_conversation(
    _logger: Any, _method: str, facts: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replaces what could be part of a conversation by its size."""
    for key in _PRIVATE & facts.keys():
        value = facts[key]
        if isinstance(value, int | float | None):
            continue
        size = len(value) if hasattr(value, "__len__") else None
        facts[key] = f"<{type(value).__name__} of {size}>"
    return facts


class PrivateRotatingHandler(logging.handlers.RotatingFileHandler):
    """Rotates like its base; the files are readable by this user only."""

    def _open(self) -> io.TextIOWrapper:
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(fd, "a", encoding="utf-8")


def _file_handler(log_file: Path) -> logging.Handler:
    handler = PrivateRotatingHandler(
        log_file, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8"
    )
    handler.setFormatter(
        _formatter(
            structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)
        )
    )
    return handler


def _terminal_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    has_colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(
        _formatter(
            structlog.dev.ConsoleRenderer(
                colors=has_colours,
                # Never with local variables: they hold prompts.
                exception_formatter=structlog.dev.plain_traceback,
            )
        )
    )
    return handler


def _formatter(*renderers: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_conversation,
    ]
