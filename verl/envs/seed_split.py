"""Which numbers name initial states of training and which those of evaluation: never the same ones.

A seed is a number from 0 to 2**32 - 1. ``EVALUATION_SEEDS`` are evaluation's, all others are training's, whatever
``data.seed`` and ``data.val_seed`` say: both only choose where in their part the counting begins. So an environment
that looks at nothing but its seed is split, too. One with a table of initial states holds some of them out
(``env.val_trials`` of LIBERO).

    0 ......... 99 999 | 100 000 ..... 199 999 | 200 000 ............................. 2**32 - 1
    training           | evaluation            | training, which goes on here after 99 999
"""

from __future__ import annotations

SEEDS = 2**32  # numpy's old generator, from which robosuite draws, takes no more
EVALUATION_SEEDS = range(100_000, 200_000)
RUN_STRIDE = 1_000_003  # between the first states of two neighbouring values of ``data.seed``


def training_seed(seed: int, number: int) -> int:
    """The seed of training's initial state ``number`` (0, 1, ...) in a run with ``data.seed=seed``."""
    start = seed * RUN_STRIDE % SEEDS
    before = min(max(0, start - EVALUATION_SEEDS.start), len(EVALUATION_SEEDS))  # of evaluation's, below the start
    place = (start - before + number) % (SEEDS - len(EVALUATION_SEEDS))
    return place if place < EVALUATION_SEEDS.start else place + len(EVALUATION_SEEDS)


def evaluation_seed(val_seed: int, number: int) -> int:
    """The seed of evaluation's initial state ``number`` (0, 1, ...) with ``data.val_seed=val_seed``."""
    return EVALUATION_SEEDS[(val_seed - EVALUATION_SEEDS.start + number) % len(EVALUATION_SEEDS)]
