"""Writes a tiny OpenVLA-OFT checkpoint with random weights, to try an environment before a real one is at hand."""

from __future__ import annotations

import argparse
from pathlib import Path

from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unnorm-key", required=True, help="name of the statistics, as libero_spatial")
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--proprio", type=int, default=0, help="numbers of proprioception; 0: not used")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stats = {given.unnorm_key: unit_stats(7, max(given.proprio, 1))}
    make_policy(given.folder, TinySize(), stats, given.proprio, given.seed, given.cameras)
    print(f"{given.folder}: random weights, statistics of {given.unnorm_key}")


if __name__ == "__main__":
    main()
