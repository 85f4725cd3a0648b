"""What a reference trajectory of each task buys: in the quality of the reward, and in reinforcement learning.

    python -m studies.proof_references POLICY ...     # the policies whose episodes are judged; resumable
    python -m studies.proof_references --only report

films      scripted episodes of the proof's four tasks: experts, play, near misses; further experts, of which the first
           of each task is its reference
critic     models/vlac-tiny-words, which has never been shown a reference, learns on without labels; a fifth of its
           pairs come after 2 to 6 pictures of another success of their task (one-shot)
quality    the value list's last entry, which is the reward of an episode without a done, with a reference and without:
           of sampled episodes of each POLICY, beside the simulator's word; VOC of the further experts' films
train      the four tasks' recipe on that critic's verdicts, with references and without; the same thresholds
rate       greedy success on fresh states

The result is ``references`` of docs/results/proof.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: one thread

import numpy as np
import torch
from PIL import Image

from evo_vlac.critic import REF_NUM, Critic, TrajectoryOptions
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import read_demonstrations
from evo_vlac.outputs import write_json
from evo_vlac.queries import reference_indices
from evo_vlac.swift_engine import SwiftEngine
from studies.collect_policy_episodes import episode
from studies.proof_critic import label_free
from studies.proof_films import collect, films
from studies.proof_report import provenance
from studies.proof_training import trainings
from studies.proof_worlds import FRESH_SEED, WORDS, WORLDS
from studies.results import enter
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.warm_start import success_rate
from verl.trainer.load_config import load_config

ROOT = Path(__file__).resolve().parents[1]
WORLD = WORLDS["robosuite"]
KINDS = ("expert", "play", "near", "expert_new")
BEGIN, START = ROOT / "models" / "vlac-tiny-words", ROOT / "models" / "openvla-oft-tiny-tasks"
SHARES = replace(WORDS, reference=0.25)
STRIDE = 8  # critic.value_stride
TEMPERATURE, QUALITY_SEED = 0.6, 165_000  # evaluation states that no table has used
ARMS = ("zero_shot", "one_shot")


def demonstrations(options: argparse.Namespace) -> None:
    chosen = replace(WORLD, kinds={kind: WORLD.kinds[kind] for kind in KINDS})
    collect(chosen, options.work / "demos", options.episodes, options.workers)


def critic(options: argparse.Namespace) -> Path:
    demos = options.work / "demos"
    return label_free(
        options.work / "critic", films(demos, "expert"), films(demos, "play", "near"), options.steps, SHARES, BEGIN
    )


def references(options: argparse.Namespace) -> dict[str, Trajectory]:
    """By instruction the first of the further experts' films; as a sidecar reads them, in ``references/TASK``."""
    found = {}
    for task in WORLD.tasks:
        shown = next(iter(read_demonstrations([_new(options, task)])))
        folder = options.work / "references" / task
        folder.mkdir(parents=True, exist_ok=True)
        for number in reference_indices(len(shown.frames), REF_NUM):
            Image.fromarray(shown.frames[number]).save(folder / f"{number:03d}.png")
        (folder / "task.txt").write_text(shown.task + "\n")
        found[shown.task] = shown
    return found


def _new(options: argparse.Namespace, task: str) -> Path:
    file: Path = options.work / "demos" / f"{task}-expert_new.h5"
    return file


def quality(options: argparse.Namespace) -> None:
    """``quality.json``, by task and arm; see :func:`told`."""
    file = options.work / "quality.json"
    if file.exists():
        return
    torch.set_num_threads(1)
    model, shown, (env, _) = critic(options), references(options), WORLD.environment()
    seeds = range(QUALITY_SEED, QUALITY_SEED + options.trials)
    policies = [OpenVLAOFTPolicy.from_pretrained(policy).eval() for policy in options.policies]
    found: dict[str, Any] = {}
    with Critic(SwiftEngine(model, device="cpu", max_batch_size=32), batch_size=64) as judging:
        for number, task in enumerate(WORLD.tasks):
            played = [
                episode(env, policy, seed, TEMPERATURE, number, training=False).trajectory
                for policy in policies
                for seed in seeds
            ]
            experts = list(read_demonstrations([_new(options, task)]))[1:]
            found[task] = {}
            for arm, reference in zip(ARMS, ((), shown[played[0].task].frames)):
                found[task][arm] = told(judging, played, experts, reference)
            print(f"{task}: {found[task]}", flush=True)
    env.close()
    write_json(file, found)


def told(
    judging: Critic, played: Sequence[Trajectory], experts: Sequence[Trajectory], reference: Sequence[Any]
) -> dict[str, Any]:
    """``auc``: how often a success's last value is over a failure's (0.5: it says nothing); ``success``, ``failure``:
    means of the last values, 0 to 1; ``n`` of both; ``voc``: mean over experts' films; ``invalid`` answers."""
    options = TrajectoryOptions(skip=STRIDE)
    scored, shown = (
        [judging.trajectory(list(one.frames), one.task, reference=reference, options=options) for one in group]
        for group in (played, experts)
    )
    good = [one.reward for one, seen in zip(scored, played) if seen.success]
    bad = [one.reward for one, seen in zip(scored, played) if not seen.success]
    over = [(a > b) + (a == b) / 2 for a in good for b in bad]
    return {
        "auc": float(np.mean(over)) if over else None,
        "success": float(np.mean(good)) if good else None,
        "failure": float(np.mean(bad)) if bad else None,
        "n": [len(good), len(bad)],
        "voc": float(np.mean([one.voc for one in shown])),
        "invalid": sum(one.invalid for one in (*scored, *shown)),
    }


def train(options: argparse.Namespace) -> None:
    lines = load_config([*WORLD.keys, f"critic.sidecar.config.model={BEGIN}"])[0].critic.thresholds
    keys = [f"critic.thresholds=[{', '.join(f'[{task}, {line}]' for task, line in lines)}]", *options.overrides]
    references(options)
    shown = [f"critic.sidecar.config.reference.folder={options.work / 'references'}"]
    for arm in options.arms:
        more = shown if arm == "one_shot" else []
        seeds = range(options.first_seed, options.seeds)
        trainings(WORLD, options.work / arm, START, critic(options), ("vlac",), seeds, [*keys, *more])


def rate(options: argparse.Namespace) -> None:
    """``rated.json`` beside each ended training: success by task."""
    torch.set_num_threads(1)
    env, _ = WORLD.environment()
    for ended in sorted(options.work.glob("*_shot/vlac-[0-9]*/summary.json")):
        file = ended.with_name("rated.json")
        if not file.exists():
            policy = OpenVLAOFTPolicy.from_pretrained(ended.with_name("checkpoints") / "last" / "policy")
            seeds = range(FRESH_SEED, FRESH_SEED + options.rated)
            write_json(file, {t: success_rate(policy, env, seeds, 0.0, n)[0] for n, t in enumerate(WORLD.tasks)})
    env.close()


def report(options: argparse.Namespace) -> None:
    found: dict[str, Any] = {"quality": json.loads((options.work / "quality.json").read_text()), "success": {}}
    for arm in ARMS:
        rated = sorted((options.work / arm).glob("vlac-[0-9]*/rated.json"))
        found["success"][arm] = {file.parent.name.rpartition("-")[2]: json.loads(file.read_text()) for file in rated}
    enter(options.json, "references", {**found, **provenance()})


STAGES = {"films": demonstrations, "critic": critic, "quality": quality, "train": train, "rate": rate, "report": report}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="*", type=Path, default=[START], metavar="POLICY")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "proof-references", help="folder of all that is made"
    )
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--episodes", type=int, default=90, help="experts' films of each task")
    parser.add_argument("--steps", type=int, default=600, help="of the critic")
    parser.add_argument("--trials", type=int, default=30, help="episodes of each policy and task that are judged")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="trainings: these alone")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rated", type=int, default=75, help="fresh states of each task")
    parser.add_argument("--workers", type=int, default=1, help="processes that collect")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "results" / "proof.json")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="key=value", help="for every training")
    options = parser.parse_args(arguments)
    options.work = options.work.absolute()
    for name, stage in STAGES.items():
        if name in options.only:
            stage(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
