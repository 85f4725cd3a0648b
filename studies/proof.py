"""The proof's study: several tasks, one policy, and what each method makes of them. Resumable at any point.

    python studies/proof.py                                  # everything, about the length of a night on two cores
    python studies/proof.py --only demonstrations start      # these stages alone
    python studies/proof.py --only report                    # docs/results/proof.json of what is there

demonstrations  scripted episodes, a file a task: of drawn competence (no step towards a failure) for the policy; by the
                expert, and play, for the critic
start           one policy by plain imitation of the first
shift           for each task the best constant added to one action while the gripper is open or closed: searched on
                states of its own by successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943)
critic          one label-free critic from the pictures of the other two
train           RL under each critic and seed: VLAC's verdicts, the simulator's done, VLAC's rewards shuffled
report          success by task and method on fresh states (start and shift: 200 a task, trainings: 300 in all), and
                episodes to 80 %

What is there is not made again; a training that was interrupted goes on. ``key=value`` arguments go to every training.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: one thread

import numpy as np
import torch

from evo_vlac.outputs import write_json
from evo_vlac.tiny.model import TinyConfig, build_tiny_vlac
from evo_vlac.tiny.vision import LookConfig, learn_to_look
from evo_vlac.training.finetune import FinetuneConfig, finetune
from evo_vlac.training.pairs import PairConfig, Shares
from verl.envs.factory import create_environment
from verl.envs.robosuite_env import RobosuiteEnv
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.tiny import TinySize, make_policy
from verl.models.warm_start import Demonstrations, TrainConfig, success_rate, train
from verl.trainer.load_config import load_config
from verl.trainer.report.curves import read_metrics

ROOT = Path(__file__).resolve().parents[1]
ENV = "robosuite_tasks"
STAGES = ("demonstrations", "start", "shift", "critic", "train", "report")
FILES = {  # kinds, seed of the first episode (and 20 000 more for each task), share of --episodes
    "varied": ("varied", 500_000, 1.0),
    "expert": ("success", 700_000, 0.5),
    "play": ("random:0.4,failure:0.25,near_miss:0.25,idle:0.1", 900_000, 0.25),
}
SHARES = Shares(done=0.64, done_wrong_task=0.1, critic=0.14, reversed=0.05, stagnant=0.03, failed=0.04, describe=0.0)
SEARCH_SEED, FRESH_SEED = 170_000, 180_000  # evaluation states that no table has used
CHUNK, PROPRIO, LEARNING_RATE = 8, 8, 1.2e-3
SHIFTS = (-0.8, -0.4, -0.2, 0.2, 0.4, 0.8)
DIMENSIONS = 6
ARMS: dict[str, tuple[str, ...]] = {
    "vlac": (),
    "simulator": ("critic.enable=false",),
    "shuffled": ("critic.shuffle=true",),
}


@dataclass(frozen=True, order=True)
class Shift:
    """``amount`` is added to action ``dimension`` while the gripper's action is to close (``closed``) or to open."""

    dimension: int
    closed: bool
    amount: float


class Shifted:
    """A policy under a constant shift."""

    def __init__(self, policy: OpenVLAOFTPolicy, shift: Shift) -> None:
        self.policy, self.shift = policy, shift

    def predict(self, *arguments: Any) -> Any:
        output = self.policy.predict(*arguments)
        actions = np.array(output.actions)
        meant = (actions[..., 6] > 0) == self.shift.closed
        actions[..., self.shift.dimension] += self.shift.amount * meant
        return output._replace(actions=actions)


def halve(candidates: Sequence[Shift], rate: Callable[[Shift, int], float], most: int, least: int = 20) -> Shift:
    """The best of ``candidates``: all are rated on ``least`` episodes, the better quarter on three times as many, and
    so on, the last ones on ``most``. ``rate(candidate, episodes)`` is a share of successes."""
    left, episodes = sorted(candidates), min(least, most)
    while True:
        rated = sorted(left, key=lambda one: -rate(one, episodes))  # stable: equals keep their order
        if episodes == most:
            return rated[0]
        left, episodes = rated[: max(2, len(rated) // 4)], min(most, 3 * episodes)


def episodes_to(points: Sequence[tuple[float, float]], goal: float = 0.8) -> float | None:
    """Training episodes at which the success of (episodes, success) points first reaches ``goal``; None: never."""
    return next((episodes for episodes, success in points if success >= goal), None)


def environment() -> tuple[RobosuiteEnv, dict[str, Any]]:
    """The tasks' environment and its keys, as a training has them."""
    section = load_config([f"env={ENV}"])[0].env
    env = create_environment(section)
    assert isinstance(env, RobosuiteEnv)
    return env, section


def demonstrations(options: argparse.Namespace) -> None:
    """A file a task and kind, by the environment's collector."""
    section = load_config([f"env={ENV}"])[0].env
    for number, (task, steps) in enumerate(zip(section["tasks"], section["task_steps"])):
        for name, (kinds, first, share) in FILES.items():
            out = options.work / "demos" / f"{task}-{name}.h5"
            if out.exists():
                continue
            command = [sys.executable, "-m", "verl.envs.collect", "--task", task, "--out", out, "--kinds", kinds]
            command += ["--episodes", max(1, round(share * options.episodes))]
            command += ["--seed", first + 20_000 * number, "--workers", options.workers, "--max-steps", steps]
            command += ["--cube-within", section["cube_within"], "--zoom", section["zoom"]]
            subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def start(options: argparse.Namespace) -> Path:
    """One policy that imitates all demonstrations alike, those that failed, too."""
    final = options.work / "start"
    if (final / "config.json").exists():
        return final
    tasks = load_config([f"env={ENV}"])[0].env["tasks"]
    files = [options.work / "demos" / f"{task}-varied.h5" for task in tasks]
    data = Demonstrations.read(files, ["agentview"], CHUNK, kinds=("varied",))
    random = options.work / "random"
    if not (random / "config.json").exists():
        make_policy(random, TinySize(), {ENV: data.norm_stats()}, PROPRIO, seed=0)
    policy = OpenVLAOFTPolicy.from_pretrained(random)
    steps = options.steps
    config = TrainConfig(steps, vision_steps=steps // 12, goal_weight=0.3, lr=LEARNING_RATE)
    train(policy, data, config, options.work / "start.pt", _told("start", steps))
    policy.save_pretrained(final)
    return final


def _told(name: str, steps: int) -> Callable[[int, float], None]:
    def tell(step: int, loss: float) -> None:
        if (step + 1) % 100 == 0:
            print(f"{name}: step {step + 1} of {steps}, loss {loss:.3f}", flush=True)

    return tell


def shift(options: argparse.Namespace) -> None:
    """``shift-TASK.json`` for each task: the start's success, the best shift, and its success on fresh states."""
    torch.set_num_threads(1)
    policy = OpenVLAOFTPolicy.from_pretrained(start(options))
    env, section = environment()
    every = [Shift(d, c, a) for d in range(DIMENSIONS) for c in (False, True) for a in SHIFTS]
    for number, task in enumerate(section["tasks"]):
        file = options.work / f"shift-{task}.json"
        if file.exists():
            continue

        def rate(player: Any, first: int, count: int, task: int = number) -> float:
            return success_rate(player, env, range(first, first + count), 0.0, task)[0]

        def searched(one: Shift, count: int) -> float:
            return rate(Shifted(policy, one), SEARCH_SEED, count)

        best = halve(every, searched, options.trials)
        found = {
            "start": rate(policy, FRESH_SEED, options.trials),
            "constant_shift": rate(Shifted(policy, best), FRESH_SEED, options.trials),
            "dimension": best.dimension,
            "while": "closed" if best.closed else "open",
            "amount": best.amount,
            "episodes": options.trials,
        }
        write_json(file, found)
        print(f"{task}: {found}", flush=True)
    env.close()


def critic(options: argparse.Namespace) -> Path:
    """Looks, then is fine-tuned; neither reads anything but pictures and instructions, and nothing is chosen here."""
    folder = options.work / "critic"
    demos, play = (tuple(sorted((options.work / "demos").glob(f"*-{name}.h5"))) for name in ("expert", "play"))
    if not (folder / "base/model.safetensors").is_file():
        build_tiny_vlac(folder / "base", TinyConfig(seed=0))
    if not (folder / "look").is_dir():
        lesson = LookConfig(steps=options.critic_steps // 2, label_free=True)
        learn_to_look(folder / "base", [*demos, *play], folder / "look", lesson)
    final: Path = folder / "training" / "final"
    if not final.is_dir():
        pairs = PairConfig(count=32 * options.critic_steps, shares=SHARES, near=0.0, label_free=True)
        finetune(
            FinetuneConfig(
                model=folder / "look",
                output=folder / "training",
                demos=demos,
                play=play,
                pairs=pairs,
                tuner="full",
                train_vision=True,
                steps=options.critic_steps,
                batch_size=32,
                learning_rate=1e-3,
                threads=1,
                save_steps=100,
                resume=True,
            )
        )
    return final


def train_arms(options: argparse.Namespace) -> None:
    """One run an arm and seed, of which each is resumed where it was."""
    model, judge, folder = start(options), critic(options), options.work / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for arm, keys in ARMS.items():
            run = folder / f"{arm}-{seed}"
            if (run / "summary.json").exists():
                continue
            command = [sys.executable, "-m", "verl.launch", f"env={ENV}", f"trainer.run_id={run.name}"]
            command += [f"trainer.default_local_dir={folder}", f"actor_rollout_ref.model.path={model}"]
            command += [f"data.seed={seed}", "trainer.save_freq=1", "trainer.videos=0", "data.val_batch_size=300"]
            command.append(f"data.val_seed={FRESH_SEED}")
            command += [f"critic.sidecar.config.model={judge}", *keys, *options.overrides]
            if (run / "checkpoints").is_dir():
                command.append("trainer.resume_mode=auto")
            with (folder / f"{run.name}.log").open("ab") as log:
                subprocess.run(command, check=True, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def results(work: Path, tasks: Sequence[str]) -> dict[str, Any]:
    """The mapping of ``docs/results/proof.json``, as far as stages have come."""
    found: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for task in tasks:
        file = work / f"shift-{task}.json"
        if file.exists():
            told = json.loads(file.read_text())
            for method in ("start", "constant_shift"):
                found[task][method] = {"success": [told[method]], "episodes_to_80": [None]}
            found[task]["constant_shift"] |= {key: told[key] for key in ("dimension", "while", "amount")}
    for arm in ARMS:
        for run in sorted((work / "runs").glob(f"{arm}-*/summary.json")):
            for instruction, points in _curves(run.parent / "metrics.jsonl").items():
                task = found.setdefault(instruction, {})
                row = task.setdefault(arm, {"success": [], "episodes_to_80": []})
                row["success"].append(points[-1][1])
                row["episodes_to_80"].append(episodes_to(points))
    return {"tasks": found, **provenance()}


def _curves(file: Path) -> Mapping[str, list[tuple[float, float]]]:
    """By the number of the task, as evaluations name it: (training episodes, success)."""
    curves: dict[str, list[tuple[float, float]]] = {}
    tasks = load_config([f"env={ENV}"])[0].env["tasks"]
    for row in read_metrics(file):
        for key, value in row.items():
            if key.startswith("val/success/"):
                name = tasks[int(key.rpartition("/")[2])]
                curves.setdefault(name, []).append((row["train/episodes"], value))
    return curves


def provenance() -> dict[str, Any]:
    """What figures need beside them."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    names = ("torch", "transformers", "ray", "robosuite", "mujoco", "numpy")
    versions = {name: version(name) for name in names}
    return {"commit": commit.stdout.strip(), "versions": versions, "date": datetime.date.today().isoformat()}


def report(options: argparse.Namespace) -> None:
    tasks = load_config([f"env={ENV}"])[0].env["tasks"]
    write_json(options.json, results(options.work, tasks))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "proof", help="folder of all that is made")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--episodes", type=int, default=400, help="demonstrations of each task for the policy")
    parser.add_argument("--steps", type=int, default=12_000, help="of imitation")
    parser.add_argument("--critic-steps", type=int, default=4000, help="of the critic; its first lesson: half")
    parser.add_argument("--trials", type=int, default=200, help="episodes of a figure")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="processes that collect")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "results" / "proof.json")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    options.work = options.work.absolute()
    stages = dict(zip(STAGES, (demonstrations, start, shift, critic, train_arms, report)))
    for name in STAGES:
        if name in options.only:
            stages[name](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
