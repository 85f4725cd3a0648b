"""Makes the shipped tiny critic again: collect, learn to look, fine-tune, publish, judge on episodes never seen.

    python studies/make_tiny_vlac.py --work runs/vlac-tiny                  # everything
    python studies/make_tiny_vlac.py --work runs/vlac-tiny --only evaluate  # the figures of models/vlac-tiny alone

Every step is skipped when its result is there, and a training that was interrupted goes on: run it again to resume. On
one core of a laptop the whole takes about two hours, most of it the training.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from evo_vlac.critic import Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import read_demonstrations
from evo_vlac.evaluation.heldout import HeldoutOptions, HeldoutReport, judge_heldout, rounded
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.tiny.model import TinyConfig, build_tiny_vlac
from evo_vlac.tiny.vision import LookConfig, learn_to_look
from evo_vlac.training.finetune import FinetuneConfig, finetune, publish
from evo_vlac.training.pairs import PairConfig, Shares

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "vlac-tiny"
HARD = "noisy:0.55,expert_then_random:0.3,near_miss:0.15"
STEPS = ("collect", "look", "finetune", "publish", "evaluate")
MIXED = "success:0.2,noisy:0.24,near_miss:0.15,drop:0.1,failure:0.11,expert_then_random:0.12,random:0.05,idle:0.03"


@dataclass(frozen=True)
class Episodes:
    """A demonstration file: scripted episodes of these kinds, or those of the shipped policy (``kinds`` empty)."""

    name: str
    kinds: str
    count: int
    seed: int
    task: str = "Lift"


DEMOS = (
    Episodes("train-mixed", MIXED, 450, 200_000),
    Episodes("train-hard", HARD, 360, 210_000),
    Episodes("train-red", MIXED, 300, 300_000, "LiftRed"),
    Episodes("train-green", MIXED, 300, 310_000, "LiftGreen"),
    Episodes("train-policy", "", 240, 400_000),
    Episodes("heldout-scripted", MIXED, 80, 900_000),
    Episodes("heldout-policy", "", 60, 970_000),
    Episodes("heldout-red", MIXED, 60, 920_000, "LiftRed"),
    Episodes("heldout-green", MIXED, 60, 930_000, "LiftGreen"),
)
"""Episode i of a file has its seed + i; the ranges do not meet."""


@dataclass(frozen=True)
class Stage:
    """One training by ``finetune``; each starts from the one before.

    ``mix``: or from the average of the two before it, this much of the latter (model soups, arXiv:2203.05482).
    """

    name: str
    steps: int
    batch: int
    learning_rate: float
    seed: int
    near: float
    shares: Shares
    demos: tuple[str, ...]
    near_positives: float = 0.0
    positives: float = 0.4
    mix: float | None = None


LOOK = LookConfig(steps=2800)
SCRIPTED = ("train-mixed", "train-hard", "train-red", "train-green")
MOSTLY_DONE = Shares(
    done=0.64,
    done_wrong_task=0.06,
    critic=0.16,
    reversed=0.05,
    stagnant=0.03,
    critic_wrong_task=0.01,
    failed=0.04,
    describe=0.01,
)
STAGES = (
    Stage(
        "training",
        3000,
        32,
        1e-3,
        0,
        0.25,
        Shares(
            done=0.6,
            done_wrong_task=0.06,
            critic=0.18,
            reversed=0.06,
            stagnant=0.03,
            critic_wrong_task=0.02,
            failed=0.04,
            describe=0.01,
        ),
        (*SCRIPTED, "train-policy"),
        0.35,
    ),
    Stage(
        "settle",
        1000,
        32,
        5e-4,
        1,
        0.25,
        MOSTLY_DONE,
        (*SCRIPTED, "train-policy"),
        0.35,
        0.62,
    ),
    Stage(
        "lean",
        300,
        32,
        2e-4,
        2,
        0.25,
        MOSTLY_DONE,
        (*SCRIPTED, "train-policy"),
        0.35,
        0.68,
        0.6,
    ),
)
CUBES = ("lift the red cube", "lift the green cube")
SEED = 0
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)

logger = logging.getLogger("make_tiny_vlac")


def demo_file(work: Path, name: str) -> Path:
    return work / "demos" / f"{name}.h5"


def collect(work: Path, prefix: str, workers: int) -> None:
    """The files whose name starts so: scripted by the environment's collector, the policy's by the script here."""
    for episodes in DEMOS:
        out = demo_file(work, episodes.name)
        if out.is_file() or not episodes.name.startswith(prefix):
            continue
        if episodes.kinds:
            command = [
                "-m",
                "verl.envs.collect",
                "--task",
                episodes.task,
                "--kinds",
                episodes.kinds,
                "--workers",
                str(workers),
            ]
        else:
            command = [str(ROOT / "studies" / "collect_policy_episodes.py")]
        command += ["--out", str(out.absolute()), "--episodes", str(episodes.count), "--seed", str(episodes.seed)]
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT, timeout=7200)


def look(work: Path, threads: int) -> Path:
    """Random weights by seed, whose vision tower then learns where things are."""
    base, looking = work / "base", work / "look"
    if not (base / "model.safetensors").is_file():
        build_tiny_vlac(base, TinyConfig(seed=SEED))
    if not looking.is_dir():
        torch.set_num_threads(threads)
        learn_to_look(base, [demo_file(work, name) for name in SCRIPTED], looking, LOOK)
    return looking


def train(work: Path, threads: int) -> Path:
    """``finetune``, stage by stage, from the model that has learnt to look."""
    before = model = look(work, threads)
    for stage in STAGES:
        output, count = work / stage.name, stage.steps * stage.batch
        if stage.mix is not None:
            model = average(before, model, stage.mix, work / f"before-{stage.name}")
        demos = tuple(demo_file(work, name) for name in stage.demos)
        if not (output / "final").is_dir():
            finetune(
                FinetuneConfig(
                    model=model,
                    output=output,
                    demos=demos,
                    tuner="full",
                    train_vision=True,
                    steps=stage.steps,
                    pairs=PairConfig(
                        count=count,
                        shares=stage.shares,
                        near=stage.near,
                        near_positives=stage.near_positives,
                        positives=stage.positives,
                        seed=stage.seed,
                    ),
                    batch_size=stage.batch,
                    learning_rate=stage.learning_rate,
                    threads=threads,
                    workers=1,
                    seed=stage.seed,
                    save_steps=100,
                    resume=True,
                )
            )
        before, model = model, output / "final"
    return model


def average(one: Path, other: Path, share: float, output: Path) -> Path:
    """A copy of ``other`` whose weights are ``share`` its own and for the rest those of ``one``."""
    if not output.is_dir():
        partial = output.with_name(output.name + ".part")
        shutil.copytree(other, partial, dirs_exist_ok=True)
        first, second = (load_file(model / "model.safetensors") for model in (one, other))
        mixed = {name: (1 - share) * first[name] + share * second[name] for name in second}
        save_file(mixed, partial / "model.safetensors", metadata={"format": "pt"})
        partial.rename(output)
    return output


def evaluate(work: Path, model: Path) -> dict[str, Any]:
    """The figures of ``model`` on the held-out episodes; where there are two cubes, the wrong task is the other one."""
    figures: dict[str, Any] = {"model": "vlac-tiny", "packages": {p: version(p) for p in ("torch", "transformers")}}
    with Critic(SwiftEngine(model, device="cpu", max_batch_size=32), batch_size=64) as critic:
        for episodes in (episodes for episodes in DEMOS if episodes.name.startswith("heldout")):
            name, started = episodes.name, time.monotonic()
            two_cubes = HeldoutOptions(wrong_tasks=CUBES, wrong_frames=64)
            options = HeldoutOptions() if episodes.task == "Lift" else two_cubes
            report = judge_heldout(critic, _with_progress(demo_file(work, name)), options)
            figures[name] = {**report.table(), "thresholds": _sweep(report)}
            logger.info("%s: %s (%.0f s)", name, json.dumps(report.table()["done_frames"]), time.monotonic() - started)
    return figures


def _with_progress(path: Path) -> Iterator[Trajectory]:
    for index, demo in enumerate(read_demonstrations([path])):
        if index % 20 == 0:
            logger.info("%s: episode %d", path.name, index)
        yield demo


def _sweep(report: HeldoutReport) -> list[dict[str, float | None]]:
    rows = []
    for line in THRESHOLDS:
        frames, episodes = report.frames(line), report.by_episode(line)
        rows.append(
            {
                "threshold": line,
                "frame_precision": rounded(frames.precision),
                "frame_recall": rounded(frames.recall),
                "episode_precision": rounded(episodes.precision),
                "episode_recall": rounded(episodes.recall),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "vlac-tiny", help="folder of intermediate results")
    parser.add_argument("--model", type=Path, default=MODEL, help="where the critic is published")
    parser.add_argument("--only", choices=STEPS, help="this step alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that collect")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    wanted = (options.only,) if options.only else STEPS
    if "collect" in wanted:
        collect(options.work, "", options.workers)
    if "look" in wanted:
        look(options.work, options.threads)
    if "finetune" in wanted:
        train(options.work, options.threads)
    if "publish" in wanted:
        card = options.model / "README.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        publish(options.work / STAGES[-1].name / "final", options.model)
        card.write_text(text, encoding="utf-8")
    if "evaluate" in wanted:
        collect(options.work, "heldout", options.workers)
        figures = evaluate(options.work, options.model)
        (options.model / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        (options.model / "trained_for.json").write_text(
            json.dumps(["critic", "done", "task_description"]) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
