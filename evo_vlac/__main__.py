"""``python -m evo_vlac``: see ``--help``."""

from __future__ import annotations

import sys

from evo_vlac.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
