"""``python -m sidecar.bench.verdicts model=DIR [key=value ...] --variant "direct.quantize=int8" --data PATH``.

Which verdicts change when the critic computes in another way: the same questions (a done for each frame, a pair for
each two neighbours) to the engine as the keys say, then to each variant.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from evo_vlac.datasets.open import open_dataset
from evo_vlac.datasets.trajectory import DatasetOptions
from evo_vlac.engine import Answer, Query
from evo_vlac.errors import EvoVlacError
from evo_vlac.parsing import parse_critic, parse_done
from evo_vlac.queries import critic_query, done_query
from sidecar.config import Config
from sidecar.config_file import load
from sidecar.engines import registry
from sidecar.errors import SidecarError
from sidecar.resources import limit_resources

_RANDOM_SIZE = 224


@dataclass(frozen=True, slots=True)
class Change:
    """A variant against the keys as they are.

    Attributes:
        dones, pairs: how many were asked.
        dones_changed: verdicts at ``threshold``, readable or not included; pairs_changed: numbers.
        probability_mean, probability_most: of the differences of P(done).
        pair_mean, pair_most: of the differences of the pairs' numbers, percent.
        verdicts_per_s, device_gb: of the variant.
    """

    variant: str
    dones: int
    dones_changed: int
    probability_mean: float
    probability_most: float
    pairs: int
    pairs_changed: int
    pair_mean: float
    pair_most: float
    verdicts_per_s: float
    device_gb: float


def questions(data: Path | None, random: int, limit: int) -> list[Query]:
    """A done for each frame of the trajectories, a pair for each two neighbours; ``random`` frames without ``data``."""
    if data is None:
        shape = (random, _RANDOM_SIZE, _RANDOM_SIZE, 3)
        shown = [("lift the red cube", list(np.random.default_rng(0).integers(0, 256, shape, np.uint8)))]
    else:
        shown = [(one.task, list(one.frames)) for one in open_dataset(data, options=DatasetOptions(limit=limit))]
    dones = [done_query(frame, task) for task, frames in shown for frame in frames]
    pairs = [critic_query(a, b, task) for task, frames in shown for a, b in itertools.pairwise(frames)]
    return [*dones, *pairs]


def answered(config: Config, asked: Sequence[Query]) -> tuple[list[Answer], float, float]:
    """The answers, verdicts a second, GB that the engine holds on its device (on a CPU: in memory)."""
    registry.check(config)
    engine = registry.load(config)
    try:
        size, answers = config.batch.max_size, []
        engine.answer(asked[:1])
        start = time.perf_counter()
        for kind in ("done", "critic"):  # a batch of the direct engine holds one kind
            of_kind = [query for query in asked if query.kind == kind]
            for at in range(0, len(of_kind), size):
                answers += engine.answer(of_kind[at : at + size])
        seconds, memory = time.perf_counter() - start, engine.memory_bytes()
        return answers, len(asked) / seconds, (memory.get("device") or memory.get("host", 0)) / 1e9
    finally:
        engine.close()


def compare(
    variant: str, asked: Sequence[Query], plain: Sequence[Answer], other: Sequence[Answer], threshold: float
) -> Change:
    """What is different in ``other``; a verdict that one of the two cannot give has changed, and has no difference."""
    count = sum(query.kind == "done" for query in asked)
    dones = [(parse_done(a, threshold), parse_done(b, threshold)) for a, b in zip(plain[:count], other[:count])]
    pairs = [(parse_critic(a), parse_critic(b)) for a, b in zip(plain[count:], other[count:])]
    moved = [abs(a.probability - b.probability) for a, b in dones if a.valid and b.valid]
    apart = [abs(a.value - b.value) for a, b in pairs if a.valid and b.valid]
    return Change(
        variant,
        len(dones),
        sum((a.valid, a.done) != (b.valid, b.done) for a, b in dones),
        float(np.mean(moved)) if moved else 0.0,
        max(moved, default=0.0),
        len(pairs),
        sum(a.valid != b.valid or (a.valid and a.value != b.value) for a, b in pairs),
        float(np.mean(apart)) if apart else 0.0,
        max(apart, default=0.0),
        0.0,
        0.0,
    )


def table(changes: Sequence[Change]) -> str:
    """A row a variant."""
    head = (
        f"{'variant':28}{'dones':>7}{'changed':>9}{'P(done) mean, most':>22}{'pairs':>7}{'changed':>9}"
        f"{'percent mean, most':>22}{'per s':>8}{'GB':>7}"
    )
    rows = [
        f"{one.variant:28}{one.dones:7}{one.dones_changed:9}{one.probability_mean:14.4f}{one.probability_most:8.3f}"
        f"{one.pairs:7}{one.pairs_changed:9}{one.pair_mean:14.2f}{one.pair_most:8.1f}{one.verdicts_per_s:8.1f}"
        f"{one.device_gb:7.2f}"
        for one in changes
    ]
    return "\n".join([head, *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a row for the keys as they are and one for each variant."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.bench.verdicts", description=__doc__)
    parser.add_argument("keys", nargs="+", metavar="key=value", help="the sidecar's keys, model=DIR among them")
    parser.add_argument("--variant", action="append", required=True, metavar='"KEY=VALUE ..."')
    parser.add_argument("--data", type=Path, help="videos or a dataset, as evo_vlac reads them")
    parser.add_argument("--limit", type=int, default=10, help="trajectories of it, at most")
    parser.add_argument("--random", type=int, default=64, metavar="N", help="without --data: frames of noise")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        plain = load(None, ["run_id=verdicts", *given.keys])
        limit_resources(plain)
        asked = questions(given.data, given.random, given.limit)
        first, rate, held = answered(plain, asked)
        changes = [_measured(compare("as the keys say", asked, first, first, plain.threshold), rate, held)]
        for variant in given.variant:
            config = load(None, ["run_id=verdicts", *given.keys, *shlex.split(variant)])
            other, rate, held = answered(config, asked)
            changes.append(_measured(compare(variant, asked, first, other, plain.threshold), rate, held))
    except (SidecarError, EvoVlacError) as error:
        sys.stderr.write(f"error: {error}\n")
        return getattr(error, "exit_code", 1)
    sys.stdout.write((json.dumps([asdict(one) for one in changes], indent=1) if given.json else table(changes)) + "\n")
    return 0


def _measured(change: Change, rate: float, held: float) -> Change:
    return Change(**{**asdict(change), "verdicts_per_s": rate, "device_gb": held})


if __name__ == "__main__":
    sys.exit(main())
