"""``python -m sidecar --config FILE [key=value ...]``: the sidecar, supervised, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from sidecar import logs
from sidecar.config import Config
from sidecar.config_file import load
from sidecar.errors import SidecarError
from sidecar.supervisor import Supervisor

logger = logging.getLogger(__name__)


def parse(arguments: Sequence[str]) -> Config:
    """The configuration that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m sidecar",
        description="The critic's process: maps the lanes of a run, answers done / value / valid.",
        epilog="Keys and their defaults: docs/sidecar.md.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of keys and values")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as engine=swift batch.max_size=32")
    given = parser.parse_args(arguments)
    return load(given.config, given.overrides)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 stopped in order, 2 cannot work as configured, 70 crash loop, 1 anything else."""
    try:
        config = parse(sys.argv[1:] if arguments is None else arguments)
        logs.set_up(config.log, "sidecar")
        return Supervisor(config).run()
    except SidecarError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
