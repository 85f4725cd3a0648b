"""Makes models/openvla-oft-tiny again: scripted demonstrations, supervised warm start, evaluation in the simulator.

    python studies/make_tiny_policy.py             writes models/openvla-oft-tiny, works in runs/make-tiny-policy
    python studies/make_tiny_policy.py --out DIR --steps 400 --episodes 300
    python studies/make_tiny_policy.py --tasks LiftRed LiftGreen --episodes 2000 --steps 18000 --vision-steps 1500 \\
        --sloppier-steps 50 --max-steps 40         models/openvla-oft-tiny-cubes, over an hour

Every stage leaves its result in the work folder and is skipped when it is there: an interrupted run goes on where it
was. The demonstrations are sloppy: the gripper often closes too high, and most of them fail; in all else they are
alike. The policy learns all of them, and at last the sloppier ones alone: so it knows where the cube is, and
reinforcement learning has something to gain.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: one thread

import torch
from rich.progress import Progress

from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.tiny import TinySize, make_policy
from verl.models.warm_start import Demonstrations, TrainConfig, success_rate, train
from verl.models.warm_start.card import write_card
from verl.models.warm_start.evaluate import make_env

ROOT = Path(__file__).resolve().parents[1]
DEMO_SEED, EVALUATION_SEED = 50_000, 900_000  # episode i of the k-th task's demonstrations: 50000 + 10000 k + i
LEARNING_RATE = 1.2e-3
SHIPPED = {("Lift",): "openvla-oft-tiny", ("LiftRed", "LiftGreen"): "openvla-oft-tiny-cubes"}
CAMERA, CHUNK, PROPRIO, KIND = "agentview", 8, 8, "sloppy"
SLOPPIER_M = 0.845  # height of the hand at which the gripper closes, from which on a demonstration counts as sloppier


@dataclass(frozen=True)
class Work:
    """Where each stage leaves its result."""

    folder: Path

    def demonstrations(self, task: str) -> Path:
        return self.folder / f"demonstrations-{task}.h5"

    @property
    def start(self) -> Path:
        return self.folder / "random"

    @property
    def training(self) -> Path:
        return self.folder / "training.pt"

    @property
    def sloppier(self) -> Path:
        return self.folder / "sloppier.pt"

    @property
    def figures(self) -> Path:
        return self.folder / "figures.json"


def collect(options: argparse.Namespace, work: Work) -> None:
    """Scripted episodes of each task, by the collector that the critic's data comes from too."""
    for number, task in enumerate(options.tasks):
        target = work.demonstrations(task)
        if target.exists():
            print(f"demonstrations: {target} is there")
            continue
        partial = target.with_suffix(".partial.h5")
        command = [sys.executable, "-m", "verl.envs.collect", "--env", "robosuite", "--task", task]
        command += ["--out", partial, "--episodes", options.episodes, "--kinds", KIND]
        command += ["--seed", DEMO_SEED + 10_000 * number, "--workers", options.workers]
        partial.unlink(missing_ok=True)
        subprocess.run([str(c) for c in command], check=True, cwd=ROOT)
        partial.rename(target)


def warm_start(options: argparse.Namespace, work: Work) -> tuple[OpenVLAOFTPolicy, dict[str, Any]]:
    """Supervised training from random weights; resumes from the work folder."""
    data = Demonstrations.read([work.demonstrations(task) for task in options.tasks], [CAMERA], CHUNK, kinds=(KIND,))
    if not (work.start / "config.json").exists():
        stats = {"_".join(["robosuite", *(task.lower() for task in options.tasks)]): data.norm_stats()}
        make_policy(work.start, TinySize(), stats, PROPRIO, seed=options.seed)
    policy = OpenVLAOFTPolicy.from_pretrained(work.start)
    first = TrainConfig(
        options.steps, vision_steps=options.vision_steps, goal_weight=0.3, lr=LEARNING_RATE, seed=options.seed
    )
    second = TrainConfig(options.sloppier_steps, lr=LEARNING_RATE / 3, seed=options.seed + 1)
    began = time.monotonic()
    loss = _train("warm start", policy, data, first, work.training)
    sloppier = data.where(data.goals[:, 2] >= SLOPPIER_M)
    _train("the sloppier ones", policy, sloppier, second, work.sloppier)
    facts = {"episodes": data.episodes, "samples": len(data), "loss": round(loss, 3), "steps": first.steps}
    facts |= {"sloppier_samples": len(sloppier), "sloppier_steps": second.steps, "sloppier_m": SLOPPIER_M}
    return policy, {**facts, "train_s": round(time.monotonic() - began, 1)}


def _train(name: str, policy: OpenVLAOFTPolicy, data: Demonstrations, config: TrainConfig, state: Path) -> float:
    """One training with its progress; the loss of its end."""
    with Progress(disable=not sys.stderr.isatty()) as bar:
        row = bar.add_task(name, total=config.steps)

        def shown(step: int, loss: float) -> None:
            bar.update(row, completed=step + 1, description=f"{name}, loss {loss:.2f}")
            if bar.disable and (step + 1) % 50 == 0:
                print(f"{name}: step {step + 1} of {config.steps}, loss {loss:.3f}", flush=True)

        return train(policy, data, config, state, shown)


def evaluate(options: argparse.Namespace, policy: OpenVLAOFTPolicy) -> dict[str, Any]:
    """Success by the simulator on seeds that no demonstration has; the episodes are spread evenly over the tasks."""
    env = make_env(options.tasks, [CAMERA], policy.processor.size, max_steps=options.max_steps)
    each = options.evaluation_episodes // len(options.tasks)
    figures: dict[str, Any] = {"evaluation_episodes": each * len(options.tasks), "evaluation_seed": EVALUATION_SEED}
    figures |= {"temperature": options.temperature, "max_steps": options.max_steps, "tasks": options.tasks}
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + each)
    with Progress(disable=not sys.stderr.isatty()) as bar:
        for name, temperature in (("sampled", options.temperature), ("greedy", 0.0)):
            row = bar.add_task(f"evaluation, {name}", total=figures["evaluation_episodes"])
            rates = [
                success_rate(policy, env, seeds, temperature, task, progress=lambda _, row=row: bar.advance(row))[0]
                for task in range(len(options.tasks))
            ]
            figures[f"success_{name}"], figures[f"success_{name}_by_task"] = sum(rates) / len(rates), rates
            print(f"success by the simulator, {name}: {rates} of {each} each", flush=True)
    env.close()
    return figures


def forward_ms(policy: OpenVLAOFTPolicy) -> float:
    """Best of ten forward passes for a batch of 8 observations on one thread, in milliseconds of processor time."""
    images = torch.zeros(8, 1, policy.processor.size, policy.processor.size, 3, dtype=torch.uint8)
    took = []
    for _ in range(10):
        began = time.process_time()
        policy.predict(images, ["lift the red cube"] * 8, torch.zeros(8, PROPRIO))
        took.append(time.process_time() - began)
    return round(1000 * min(took), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="default: where the shipped policy of these tasks lies")
    parser.add_argument("--work", type=Path, help="default: runs/make-tiny-policy, with the tasks' names")
    parser.add_argument("--tasks", nargs="+", default=["Lift"])
    parser.add_argument("--episodes", type=int, default=1500, help="demonstrations of each task")
    parser.add_argument("--steps", type=int, default=3000, help="gradient steps of 32 samples")
    parser.add_argument("--vision-steps", type=int, default=300, help="of these, the first train the vision side alone")
    parser.add_argument("--sloppier-steps", type=int, default=100, help="on the sloppier demonstrations, afterwards")
    parser.add_argument("--evaluation-episodes", type=int, default=100)
    parser.add_argument("--max-steps", type=int, default=32, help="of an evaluation episode, as in training")
    parser.add_argument("--temperature", type=float, default=0.6, help="of the sampled evaluation, as in training")
    parser.add_argument("--workers", type=int, default=2, help="processes that collect")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out is None and tuple(options.tasks) not in SHIPPED:
        parser.error("no policy of these tasks is shipped: name a folder with --out")
    options.out = options.out or ROOT / "models" / SHIPPED[tuple(options.tasks)]
    options.work = options.work or ROOT / "runs" / "-".join(["make-tiny-policy", *options.tasks])
    torch.set_num_threads(1)
    work = Work(options.work)
    work.folder.mkdir(parents=True, exist_ok=True)
    collect(options, work)
    policy, facts = warm_start(options, work)
    figures = {**facts, **evaluate(options, policy), "forward_ms_batch_8": forward_ms(policy)}
    figures |= {"torch": torch.__version__, "python": platform.python_version(), "seed": options.seed}
    work.figures.write_text(json.dumps(figures, indent=2) + "\n")
    policy.save_pretrained(options.out)
    write_card(options.out, policy, figures, " ".join(["python studies/make_tiny_policy.py", *sys.argv[1:]]))
    print(f"wrote {options.out}: {sum(p.numel() for p in policy.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
