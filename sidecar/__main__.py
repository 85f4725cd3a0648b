"""``python -m sidecar --config FILE [key=value ...]``: the sidecar, supervised, until SIGTERM or Ctrl-C.

With ``--check`` it only says what is wrong with the configuration.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from sidecar import logs
from sidecar.config_file import load
from sidecar.errors import PERMANENT, SidecarError
from sidecar.supervisor import Supervisor

logger = logging.getLogger(__name__)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """``config`` (a file or None), ``check``, ``overrides``."""
    parser = argparse.ArgumentParser(
        prog="python -m sidecar",
        description="The critic's process: maps the lanes of a run, answers done / value / valid.",
        epilog="Keys and their defaults: docs/sidecar.md.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of keys and values")
    parser.add_argument("--check", action="store_true", help="say what is wrong with the configuration, start nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as engine=swift batch.max_size=32")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 stopped in order, 2 cannot work as configured, 70 crash loop, 1 anything else."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    if given.check:
        from sidecar.config_check import look  # reads images; the supervisor does not

        found, notices = look(given.config, given.overrides)
        sys.stderr.write("".join(f"warning: {notice}\n" for notice in notices))
        sys.stdout.write("".join(f"{problem}\n" for problem in found))
        return PERMANENT if found else 0
    try:
        config = load(given.config, given.overrides)
        logs.set_up(config.log, "sidecar")
        return Supervisor(config).run()
    except SidecarError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
