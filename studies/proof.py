"""The proof's study: several tasks, one policy, and what each method makes of them. Resumable at any point.

    python -m studies.proof                                  # everything
    python -m studies.proof --only demonstrations start      # these stages alone
    python -m studies.proof --only report                    # docs/results/proof.json of what is there
    python -m studies.proof --world lift                     # launch.sh's task, the same critic; in runs/proof-lift
    python -m studies.proof --world libero                   # three tasks of LIBERO's own, in runs/proof-libero

demonstrations  scripted episodes: of people most of whom make the task's mistake, for the policy; of experts, of play,
                and of play that comes near, for the critic
start           one policy by plain imitation of the first
critic          one label-free critic from the pictures of the others
calibrate       its threshold, by further films
audit           its verdicts on the start policy's episodes beside the simulator's, for each task
shift           the best constant added to one action while the gripper is open or closed, on --trials states of its own
imitation       rows without RL: of the successful demonstrations; of the start's episodes that the critic calls done
train           RL under each critic and seed: VLAC's verdicts; the simulator's done; that without the keys for several
                tasks at once (plain) or a value head (grpo); VLAC's by failure of tasks, shuffled, of another task
rate            success of the start and of each training's last policy on fresh states, --rated a task
report          success by task and method; episodes to 80 %, by the trainings' own evaluations

What is there is not made again; a training that was interrupted goes on. ``key=value`` arguments go to every training.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: one thread

import torch

from evo_vlac.critic import Critic
from evo_vlac.evaluation.heldout import HeldoutOptions, judge_heldout
from evo_vlac.outputs import write_json
from evo_vlac.swift_engine import SwiftEngine
from studies.collect_policy_episodes import episode
from studies.constant_shift import Shifted, every_shift, halve
from studies.proof_calibration import calibrate as calibrated
from studies.proof_critic import label_free
from studies.proof_films import collect, films
from studies.proof_imitation import good_files, imitate
from studies.proof_kept import KEPT, copy, take
from studies.proof_report import results
from studies.proof_training import ARMS, trainings
from studies.proof_verdicts import ended
from studies.proof_worlds import CHUNK, FRESH_SEED, WORLDS, World
from studies.results import enter
from verl.envs.base import Environment
from verl.envs.collect import Demo
from verl.envs.libero_env import LiberoEnv
from verl.envs.waypoints import EXACT
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.tiny import TinySize, make_policy
from verl.models.warm_start import Demonstrations, TrainConfig, success_rate, train
from verl.trainer.load_config import load_config

ROOT = Path(__file__).resolve().parents[1]
AUDIT_SEED, SEARCH_SEED = 160_000, 170_000  # evaluation states that no table has used
REJECTION_SEED = 600_000  # training states
TEMPERATURE = 0.6  # of the audited policy, as in training
PATCH = 16  # of 112 px: 49 patches, where the shipped policy has 16
PROPRIO, LEARNING_RATE = 8, 1.2e-3
LESSONS = 0.3, 0.45  # shares of the imitation's steps: the vision side alone, the decoder alone; both in the rest


def demonstrations(options: argparse.Namespace) -> None:
    """See :mod:`studies.proof_films`."""
    collect(WORLDS[options.world], options.work / "demos", options.episodes, options.workers)


def start(options: argparse.Namespace) -> Path:
    """One policy that imitates all demonstrations alike, those that failed, too."""
    final = options.work / "start"
    if (final / "config.json").exists():
        return final
    world = WORLDS[options.world]
    data = _read([options.work / "demos" / f"{task}-mixed.h5" for task in world.tasks], world)
    random = options.work / "random"
    if not (random / "config.json").exists():
        stats, cameras = {world.section["unnorm_key"]: data.norm_stats()}, len(world.section["cameras"])
        make_policy(random, TinySize(patch=PATCH), stats, PROPRIO, cameras=cameras, num_actions_chunk=CHUNK)
    policy, steps = OpenVLAOFTPolicy.from_pretrained(random), options.steps
    if world.begins is not None:
        policy.load_state_dict(OpenVLAOFTPolicy.from_pretrained(world.begins).state_dict())
    looks, reads = (round(share * steps) for share in LESSONS)
    config = TrainConfig(steps, looks, reads, goal_weight=0.3, lr=LEARNING_RATE, bfloat16=True)

    def tell(step: int, loss: float) -> None:
        if (step + 1) % 100 == 0:
            print(f"start: step {step + 1} of {steps}, loss {loss:.3f}", flush=True)

    train(policy, data, config, options.work / "start.pt", tell)
    policy.save_pretrained(final)
    return final


def shift(options: argparse.Namespace) -> None:
    """``shift-TASK.json`` for each task: the best shift of the start, and its success on fresh states."""
    torch.set_num_threads(1)
    policy, world = OpenVLAOFTPolicy.from_pretrained(start(options)), WORLDS[options.world]
    env, _ = world.environment()
    for number, task in enumerate(world.tasks):
        file = options.work / f"shift-{task}.json"
        if file.exists():
            continue

        def searched(player: Any, count: int, task: int = number) -> float:
            seeds = range(SEARCH_SEED, SEARCH_SEED + count)
            return success_rate(player, env, seeds, 0.0, task, training=True)[0]

        best = halve(every_shift(), lambda one, count: searched(Shifted(policy, one), count), options.trials)
        found = {"success": _success(Shifted(policy, best), env, number, options), **asdict(best)}
        write_json(file, found)
        print(f"{task}: {found}", flush=True)
    env.close()


def _success(player: Any, env: Environment, task: int, options: argparse.Namespace) -> float:
    """Greedy, on the fresh states that every row of the table is rated on; each of LIBERO's held-out ones once."""
    there = env.config.evaluation_states() if isinstance(env, LiberoEnv) else None
    count = min(options.rated, there or options.rated)
    return success_rate(player, env, range(FRESH_SEED, FRESH_SEED + count), 0.0, task)[0]


def _rate(file: Path, player: Any, env: Environment, options: argparse.Namespace) -> None:
    """Writes the success of each task."""
    rated = {task: _success(player, env, n, options) for n, task in enumerate(WORLDS[options.world].tasks)}
    write_json(file, rated)
    print(f"{file}: {rated}", flush=True)


def critic(options: argparse.Namespace) -> Path:
    demos, world = options.work / "demos", WORLDS[options.world]
    if world.critic is not None:
        return world.critic
    shown, play, steps = films(demos, "expert"), films(demos, "play", "near"), options.critic_steps
    return label_free(options.work / "critic", shown, play, steps, world.shares, base=world.critic_base)


def calibrate(options: argparse.Namespace) -> dict[str, float]:
    """By instruction its threshold, from ``thresholds.json``; see :mod:`studies.proof_calibration`."""
    file, demos, world = options.work / "thresholds.json", options.work / "demos", WORLDS[options.world]
    if world.critic is not None:
        return dict(load_config([f"critic.sidecar.config.model={world.critic}"])[0].critic.thresholds)
    if not file.exists():
        with _judge(critic(options)) as judging:
            write_json(file, calibrated(judging, films(demos, "expert_new"), films(demos, "near_new"), world.hold))
    return {task: told["threshold"] for task, told in json.loads(file.read_text()).items()}


def audit(options: argparse.Namespace) -> None:
    """``audit-TASK.json`` for each task: precision and recall by frame, and episodes as training ends them."""
    torch.set_num_threads(1)
    policy, model, thresholds = OpenVLAOFTPolicy.from_pretrained(start(options)), critic(options), calibrate(options)
    world = WORLDS[options.world]
    env, _ = world.environment()
    with _judge(model) as judging:
        for number, task in enumerate(world.tasks):
            file = options.work / f"audit-{task}.json"
            if file.exists():
                continue
            seeds = range(AUDIT_SEED, AUDIT_SEED + options.audited)
            played = (episode(env, policy, seed, TEMPERATURE, number, training=False).trajectory for seed in seeds)
            env.reset(AUDIT_SEED, number)
            threshold = thresholds[env.instruction]
            report = judge_heldout(judging, played, HeldoutOptions(threshold, values=False, wrong_frames=0))
            table = report.table()
            found = {"frames": table["done_frames"], "episodes": ended(report.episodes, threshold, world.hold)}
            write_json(file, found)
            print(f"{task}: {found}", flush=True)
    env.close()


def imitation(options: argparse.Namespace) -> None:
    """``rated-cloning.json`` and ``rated-rejection.json``: success by task on fresh states."""
    torch.set_num_threads(1)
    begin, model, thresholds = start(options), critic(options), calibrate(options)
    config, world = TrainConfig(options.imitated, lr=LEARNING_RATE / 3, seed=1), WORLDS[options.world]
    (env, _), tasks = world.environment(), world.tasks

    def cloning() -> Demonstrations:
        return _read([options.work / "demos" / f"{task}-mixed.h5" for task in tasks], world, succeeded=True)

    def rejection() -> Demonstrations | None:
        policy, seeds = OpenVLAOFTPolicy.from_pretrained(begin), range(REJECTION_SEED, REJECTION_SEED + options.trials)

        def played(task: int) -> Iterator[Demo]:
            return (episode(env, policy, seed, TEMPERATURE, task) for seed in seeds)

        with _judge(model) as judging:
            files = good_files(options.work / "good", tasks, played, judging, thresholds, world.hold)
        return _read(files, world, ("policy",)) if files else None

    for name, data in (("cloning", cloning), ("rejection", rejection)):
        file = options.work / f"rated-{name}.json"
        if not file.exists():
            _rate(file, imitate(begin, data(), config, options.work / name), env, options)
    env.close()


def _judge(model: Path) -> Critic:
    return Critic(SwiftEngine(model, device="cpu", max_batch_size=32), batch_size=64)


def _read(files: Sequence[Path], world: World, kinds: Sequence[str] = EXACT, succeeded: bool = False) -> Demonstrations:
    return Demonstrations.read(files, list(world.section["cameras"]), CHUNK, kinds, succeeded)


def train_arms(options: argparse.Namespace) -> None:
    """See :mod:`studies.proof_training`."""
    lines = ", ".join(f"[{task}, {line}]" for task, line in calibrate(options).items())
    recipe = [f"critic.thresholds=[{lines}]", *options.overrides]
    begin, judge, seeds = start(options), critic(options), range(options.first_seed, options.seeds)
    trainings(WORLDS[options.world], options.work / "runs", begin, judge, options.arms, seeds, recipe)


def rate(options: argparse.Namespace) -> None:
    """``rated-start.json``, and ``rated.json`` in the folder of each ended training: success by task. LIBERO's are of
    its held-out states; ``sampler-start.json`` and ``sampler.json`` of such as its placement sampler draws."""
    torch.set_num_threads(1)
    world = WORLDS[options.world]
    finished = sorted((options.work / "runs").glob("*-[0-9]*/summary.json"))
    for name, keys in {"rated": (), **({"sampler": world.sampler} if world.sampler else {})}.items():
        env, _ = world.environment(keys)
        wanted = {run.with_name(f"{name}.json"): run.with_name("checkpoints") / "last/policy" for run in finished}
        for file, policy in {options.work / f"{name}-start.json": start(options), **wanted}.items():
            if not file.exists():
                _rate(file, OpenVLAOFTPolicy.from_pretrained(policy), env, options)
        env.close()


def report(options: argparse.Namespace) -> None:
    """Beside what other studies have entered."""
    told = results(options.work, WORLDS[options.world].tasks, tuple(ARMS))
    tasks = told.pop("tasks")
    copy(options.work, options.json.parent / KEPT[options.world].name)
    if options.world == "robosuite":
        enter(options.json, "tasks", tasks, **told)
    else:
        enter(options.json, options.world, tasks, **{f"{options.world}_{key}": told[key] for key in told})


STAGES: dict[str, Callable[[argparse.Namespace], object]] = {
    "demonstrations": demonstrations,
    "start": start,
    "critic": critic,
    "calibrate": calibrate,
    "audit": audit,
    "shift": shift,
    "imitation": imitation,
    "train": train_arms,
    "rate": rate,
    "report": report,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=WORLDS, default="robosuite")
    parser.add_argument("--published", action="store_true", help="go on from what the repository has of this study")
    parser.add_argument("--work", type=Path, help="folder of all that is made; runs/proof, or runs/proof-WORLD")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--episodes", type=int, help="mixed films of each task; by default the world's")
    parser.add_argument("--steps", type=int, help="of imitation; by default the world's")
    parser.add_argument("--imitated", type=int, default=1000, help="steps of the rows that learn by imitation")
    parser.add_argument("--critic-steps", type=int, default=4000, help="of the critic; its first lesson: half")
    parser.add_argument("--trials", type=int, default=200, help="states of a search, and of rejection")
    parser.add_argument("--audited", type=int, default=60, help="episodes of each task that the critic is audited on")
    parser.add_argument("--rated", type=int, default=60, help="fresh states of each task that every row is rated on")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="trainings: these alone")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="of a second process beside the first")
    parser.add_argument("--workers", type=int, default=1, help="processes that collect")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "results" / "proof.json")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    folder = "proof" if options.world == "robosuite" else f"proof-{options.world}"
    options.episodes = options.episodes or WORLDS[options.world].episodes
    options.steps = options.steps or WORLDS[options.world].steps
    options.work = (options.work or ROOT / "runs" / folder).absolute()
    if options.published:
        take(options.work, options.world)
    for stage in (STAGES[name] for name in STAGES if name in options.only):
        stage(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
