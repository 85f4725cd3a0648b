"""Rollout throughput against the plain way: ``python -m verl.bench [options] [key=value ...]``.

All ways run the same policy, the same critic weights, as many environments, the same seeds and sampling noise; repeats
are interleaved. Everything is started before the first measurement. Keys are those of the training.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from verl.config import Config
from verl.errors import ConfigError, VerlError
from verl.launch.run_id import new_run_id
from verl.trainer.load_config import load_config

if TYPE_CHECKING:
    from verl.workers.rollout import RolloutOptions

FIRST_SEED = 10_000


@dataclass(frozen=True, slots=True)
class Plain:
    """A variant of the plain way."""

    text: str
    own: bool = True
    swift: bool = False
    batch: int = 1


PLAIN = {
    "plain": Plain("a process per environment (robosuite's own), queues, whole batches, the same engine behind HTTP"),
    "plain-swift": Plain("plain, with ms-swift's engine behind HTTP", swift=True),
    "plain-batching": Plain("plain, and the HTTP server answers what has collected in one batch", batch=64),
    "plain-our-simulator": Plain("plain, with this project's simulator: what the loop alone makes", own=False),
}
OURS = "the rollout worker, its pool, the bridge and the sidecar"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured, 2 cannot work as asked."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then, too
    try:
        report = measure(given)
    except VerlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        from verl.bench.report import print_report

        print_report(Console(highlight=False), report)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m verl.bench", description=__doc__)
    default = ["ours", "plain", "plain-our-simulator"]
    parser.add_argument("--ways", type=_ways, default=default, help=f"of ours,{','.join(PLAIN)}")
    parser.add_argument("--envs", type=int, default=4, help="environments of each way")
    parser.add_argument("--rounds", type=int, default=2, help="episodes of each environment in a repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fixed-ms", type=float, metavar="MS", help="a critic that answers any batch after so long")
    parser.add_argument("--done-at", type=int, metavar="STEP", help="... and says done from this step on")
    parser.add_argument("--encoding", choices=["jpeg", "raw"], default="jpeg", help="of frames in HTTP")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


def _ways(text: str) -> list[str]:
    """``ours,plain`` as a list; refuses what there is not."""
    names = list(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in ("ours", *PLAIN)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; there are ours, {', '.join(PLAIN)}")
    return names


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Starts all ways, runs them in turn, ends them; the report."""
    import torch

    from verl.bench.way import Row

    for key in ("envs", "rounds", "repeats"):
        if getattr(given, key) < 1:
            raise ConfigError(f"--{key} {getattr(given, key)}: must be 1 or more")
    if given.fixed_ms is not None and "plain-swift" in given.ways:
        raise ConfigError("--fixed-ms: there is no ms-swift engine then; leave plain-swift out")
    rows = {name: Row(name, OURS if name == "ours" else PLAIN[name].text) for name in given.ways}
    with ExitStack() as stack, torch.no_grad():
        ways = _start(given, stack)
        for way in ways:
            way.run(range(given.envs))  # everything has been used once
        count = given.envs * given.rounds
        for repeat in range(given.repeats):
            seeds = range(FIRST_SEED + repeat * count, FIRST_SEED + (repeat + 1) * count)
            for way in ways[repeat % len(ways) :] + ways[: repeat % len(ways)]:
                rows[way.name].measure(way, seeds)
                rate = rows[way.name].rates[-1]
                sys.stderr.write(f"repeat {repeat + 1} of {given.repeats}, {way.name}: {rate:.1f} episodes/min\n")
    return _report(given, list(rows.values()))


def _report(given: argparse.Namespace, rows: list[Any]) -> dict[str, Any]:
    rate = {row.name: row.rate for row in rows}
    ratios = {name: round(rate["ours"] / rate[name], 2) for name in rate if name != "ours"} if "ours" in rate else {}
    critic = "the configured critic" if given.fixed_ms is None else f"a critic of {given.fixed_ms:g} ms a batch"
    title = f"{given.envs} environments, {critic}, {given.repeats} repeats of {given.envs * given.rounds} episodes"
    return {"title": title, "ratios": ratios, "rows": [row.summary() for row in rows]}


def _start(given: argparse.Namespace, stack: ExitStack) -> list[Any]:
    """All ways, ready, in the order asked for; ended by ``stack``."""
    from verl.bench.critics import HttpServer, Sidecar
    from verl.bench.ours import OurWay
    from verl.bench.plain import PlainWay
    from verl.trainer.assemble import rollout_options
    from verl.trainer.preflight import preflight

    config, _ = load_config([*given.overrides, f"actor_rollout_ref.rollout.envs_per_worker={given.envs}"])
    preflight(config)
    run_id = f"bench-{new_run_id()}"[:48]
    options = rollout_options(config, run_id)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vlac-bench-")))
    critic = _critic_settings(given, run_id, config)
    file = folder / "critic.yaml"
    file.write_text(yaml.safe_dump(critic))
    servers: dict[tuple[str, int], HttpServer] = {}
    sidecar = Sidecar(run_id, file, folder / "sidecar.log") if "ours" in given.ways else None
    if sidecar is not None:
        stack.callback(sidecar.close)
    wanted = {name: _engine(PLAIN[name], critic["engine"]) for name in given.ways if name in PLAIN}
    for key in dict.fromkeys(wanted.values()):
        servers[key] = HttpServer(file, *key, folder / f"http-{key[0]}-{key[1]}.log")
        stack.callback(servers[key].close)
    for started in (sidecar, *servers.values()):
        if started is not None:
            started.wait_ready()
    policy = _policy(options)
    ways: list[Any] = []
    for name in given.ways:
        if name == "ours":
            assert sidecar is not None
            ways.append(OurWay(options, sidecar))
        else:
            ways.append(PlainWay(name, policy, options, servers[wanted[name]], PLAIN[name].own, given.encoding))
        stack.callback(ways[-1].close)
    for way in ways:
        if isinstance(way, PlainWay):
            way.wait_ready()
    return ways


def _critic_settings(given: argparse.Namespace, run_id: str, config: Config) -> dict[str, Any]:
    """The sidecar's keys, for it and for the plain ways' servers."""
    critic = {"run_id": run_id, "threshold": config.critic.threshold, **config.critic.sidecar.config}
    if given.fixed_ms is not None:
        critic |= {"engine": "fixed", "fixed": {"delay_ms": given.fixed_ms, "done_at_step": given.done_at}}
    return critic


def _policy(options: RolloutOptions) -> Any:
    """The policy of the plain ways, which share one."""
    from verl.models.registry import POLICIES

    policy = POLICIES[options.vla].from_pretrained(
        options.model_path,
        unnorm_key=options.unnorm_key,
        center_crop=options.center_crop,
        num_images_in_input=options.num_images_in_input,
        use_proprio=options.use_proprio,
    )
    return policy.eval()


def _engine(variant: Plain, configured: str) -> tuple[str, int]:
    """Which HTTP server a variant asks: its engine and its batch."""
    return ("swift" if variant.swift else configured, variant.batch)


if __name__ == "__main__":
    sys.exit(main())
