"""Structured logs: one JSON object a line into a file, one readable line on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from sidecar.config import LogConfig
from sidecar.errors import ConfigError

_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """time, level, logger, message, exception, and whatever was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        entry |= {k: v for k, v in vars(record).items() if k not in _PLAIN}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def set_up(config: LogConfig, part: str) -> None:
    """Sends this process's logs where ``config`` says. ``part`` (supervisor, service) stands in the readable lines."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter(f"%(asctime)s {part} %(levelname)s %(message)s", "%H:%M:%S"))
    console.addFilter(lambda record: not hasattr(record, "numbers"))  # the metrics of each second are for the file
    root.addHandler(console)
    if config.file is not None:
        path = Path(config.file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"log.file={path}: cannot be written ({error.strerror})") from None
        lines.setFormatter(JsonLines())
        root.addHandler(lines)
    root.setLevel(config.level.upper())
    for noisy in ("httpx", "httpcore", "urllib3", "filelock", "transformers", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
