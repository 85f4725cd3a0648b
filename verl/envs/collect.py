"""Scripted episodes as a robomimic-style HDF5 file: the policy's demonstrations and the critic's training frames.

    python -m verl.envs.collect --env robosuite --task Lift --out FILE.h5 --episodes 200 \
        --kinds success:0.4,failure:0.2,near_miss:0.2,drop:0.1,idle:0.1 --seed 0 --workers 2
    python -m verl.envs.collect --env libero --suite libero_goal --task 7 --out FILE.h5 --episodes 200

Episode i has seed ``--seed`` + i, so its initial state, its kind and its script depend on that number alone, whatever
the number of workers. In LIBERO seed s starts from state s modulo 40 of a task's 50: the last ten are evaluation's
(``env.val_trials``) and no demonstration's; pictures are without shadows and anti-aliasing (``env.effects=false
env.samples=0``). The layout is this project's of :mod:`evo_vlac.datasets.hdf5`: T actions of 7 numbers; T + 1 frames of
every camera, ``dones`` (the simulator's success at each of them), proprioception, and the simulator's positions of the
end effector and each object.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.datasets.trajectory import Trajectory
from evo_vlac.errors import EvoVlacError
from verl.envs import scripted_libero
from verl.envs.libero_env import LiberoConfig, LiberoEnv
from verl.envs.libero_setup import instruction_of, suite_tasks
from verl.envs.robosuite_env import TASKS, RobosuiteConfig, RobosuiteEnv
from verl.envs.scripted import KINDS, TURN, ScriptedExpert
from verl.errors import ConfigError, UnknownTaskError, VerlError

logger = logging.getLogger(__name__)

Config = RobosuiteConfig | LiberoConfig
Env = RobosuiteEnv | LiberoEnv
LIBERO_STEPS = 150  # longest episode of the scripted: LIBERO's own limits leave a person time


@dataclass(frozen=True, slots=True)
class Demo:
    """One scripted episode, with the frames (T + 1, H, W, 3) of all cameras but the first by name."""

    trajectory: Trajectory
    other_cameras: dict[str, np.ndarray]


def choose_kind(kinds: dict[str, float], seed: int) -> str:
    """The kind of the episode with this seed, drawn by the weights."""
    names = sorted(kinds)
    weights = np.array([kinds[name] for name in names])
    drawn = np.random.default_rng((seed, 0xC0FFEE)).choice(len(names), p=weights / weights.sum())
    return names[int(drawn)]


def parse_kinds(text: str, known: Sequence[str] = KINDS) -> dict[str, float]:
    """``success:0.4,failure:0.2`` to weights; a name alone weighs 1."""
    kinds: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition(":")
        if name not in known:
            raise ConfigError(f"--kinds: {name!r} is unknown; allowed are {', '.join(known)}")
        try:
            kinds[name] = float(weight or 1.0)
        except ValueError as error:
            raise ConfigError(f"--kinds {name}:{weight}: the weight must be a number") from error
        if not 0 <= kinds[name] < float("inf"):
            raise ConfigError(f"--kinds {name}:{weight}: the weight must be 0 or more")
    if sum(kinds.values()) <= 0:
        raise ConfigError(f"--kinds {text!r}: at least one weight must be over 0")
    return kinds


def task_name(config: Config, task: int = 0) -> str:
    """What the task is called where scripts and files name it."""
    if isinstance(config, LiberoConfig):
        return suite_tasks(config.suite)[config.task_numbers()[task]].name
    return config.tasks[task]


def record(env: Env, task: int, kind: str, seed: int) -> Demo:
    """Runs one scripted episode to its end, from a state that is training's."""
    env.reset(seed, task)
    scripts = scripted_libero.SCRIPTS if isinstance(env, LiberoEnv) else None
    expert = ScriptedExpert(task_name(env.config, task), kind, seed, env.max_steps, scripts)
    frames = {c.name: np.empty((env.max_steps + 1, *c.shape), np.uint8) for c in env.cameras}
    actions, dones, proprio, objects = [], [False], [env.proprio()], [env.objects()]
    _draw(env, frames, 0)
    while (action := expert.act(objects[-1])) is not None:
        dones.append(env.step(expert.disturbed(action)))
        actions.append(action)
        proprio.append(env.proprio())
        objects.append(env.objects())
        _draw(env, frames, len(actions))
    kept = {c.name: np.ascontiguousarray(c.upright(frames[c.name][: len(dones)])) for c in env.cameras}
    trajectory = Trajectory(
        name=f"seed {seed}",
        task=env.instruction,
        frames=list(kept.pop(env.cameras[0].name)),
        dones=tuple(dones),
        success=any(dones),
        kind=kind,
        seed=seed,
        actions=np.stack(actions),
        proprio=np.stack(proprio),
        objects={
            key: np.stack([seen[key] for seen in objects]).astype(np.float32) for key in objects[0] if key != TURN
        },
    )
    return Demo(trajectory, kept)


def _draw(env: Env, frames: dict[str, np.ndarray], step: int) -> None:
    for name, buffer in frames.items():
        env.render(name, buffer[step])


_worker_env: Env | None = None


def _start_worker(config: Config) -> None:
    global _worker_env
    _worker_env = LiberoEnv(config) if isinstance(config, LiberoConfig) else RobosuiteEnv(config)


def _work(job: tuple[str, int]) -> Demo:
    assert _worker_env is not None
    kind, seed = job
    return record(_worker_env, 0, kind, seed)


def episodes(config: Config, kinds: dict[str, float], first: int, count: int, workers: int) -> Iterator[Demo]:
    """``count`` scripted episodes of the configuration's first task, seeds from ``first``, in order."""
    jobs = [(choose_kind(kinds, seed), seed) for seed in range(first, first + count)]
    if workers <= 1:
        _start_worker(config)
        yield from map(_work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, (config,)) as pool:
        yield from pool.imap(_work, jobs)


def collect(out: Path, config: Config, kinds: dict[str, float], first: int, count: int, workers: int) -> None:
    """Writes ``count`` episodes to ``out``, all or nothing: the file appears when it is whole."""
    name, env = task_name(config), "libero" if isinstance(config, LiberoConfig) else "robosuite"
    instruction = instruction_of(name) if env == "libero" else TASKS[name].instruction
    writer = Hdf5Writer(out, env, instruction, config.cameras[0], task_name=name)
    with writer, Progress(disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"{name} episodes", total=count)
        successes = 0
        for demo in episodes(config, kinds, first, count, workers):
            writer.write(demo.trajectory, demo.other_cameras)
            successes += bool(demo.trajectory.success)
            progress.advance(bar)
            if writer.count % 50 == 0:
                logger.info("%d of %d episodes, %d successes", writer.count, count, successes)
    logger.info("%s: %d episodes, %d successes", out, count, successes)


def configure(options: argparse.Namespace) -> Config:
    """The environment that the command line asks for, with what it leaves out as the environment has it.

    Raises:
        ConfigError: an option that the environment does not have.
        UnknownTaskError: no such task, or none with a script.
    """
    own = {"robosuite": ("cube_within", "zoom"), "libero": ("suite", "assets", "split_step")}
    given: dict[str, Any] = {key: value for key, value in vars(options).items() if value is not None}
    for env, keys in own.items():
        for key in keys:
            if key in given and env != options.env:
                raise ConfigError(f"--{key.replace('_', '-')} is no option of --env {options.env}")
    given = {key: given[key] for key in ("max_steps", "image_size", *own[options.env]) if key in given}
    given["cameras"] = tuple(options.cameras.split(","))
    if options.env == "robosuite":
        return RobosuiteConfig((options.task or "Lift",), **given)
    if options.task is None or not options.task.isdecimal():
        raise UnknownTaskError(f"--task {options.task}: with --env libero it is a task's number in the suite")
    given.setdefault("suite", scripted_libero.SUITE)
    given.setdefault("max_steps", LIBERO_STEPS)
    config = LiberoConfig(tasks=(int(options.task),), effects=False, samples=0, **given)
    if (name := task_name(config)) not in scripted_libero.SCRIPTS:
        raise UnknownTaskError(f"no script for task {name!r}; allowed are {', '.join(scripted_libero.SCRIPTS)}")
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m verl.envs.collect", description="Collects scripted episodes.")
    parser.add_argument("--env", default="robosuite", choices=["robosuite", "libero"])
    parser.add_argument("--suite", help=f"LIBERO's; {scripted_libero.SUITE} has tasks with a script")
    parser.add_argument("--task", help=f"robosuite: one of {', '.join(TASKS)}; LIBERO: its number in the suite")
    parser.add_argument("--out", type=Path, required=True, help="the HDF5 file to write")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--kinds", default="success", help=f"name:weight,...; names: {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first episode; episode i has seed + i")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-steps", type=int, help=f"robosuite: 64, LIBERO: {LIBERO_STEPS}")
    parser.add_argument("--cameras", default="agentview", help="names, separated by commas")
    parser.add_argument("--image-size", type=int, help="robosuite: 112, LIBERO: 256")
    parser.add_argument("--cube-within", type=float, help="robosuite; metres: cubes lie in a square of +- so much")
    parser.add_argument("--zoom", type=float, help="robosuite; of the first camera")
    parser.add_argument("--assets", help="LIBERO's assets folder; else as env.assets has it")
    parser.add_argument("--split-step", action="store_true", default=None, help="LIBERO: env.split_step=true")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: one thread a process, the processes are the parallelism
    try:
        kinds = parse_kinds(options.kinds, scripted_libero.KINDS if options.env == "libero" else KINDS)
        collect(options.out, configure(options), kinds, options.seed, options.episodes, options.workers)
    except (VerlError, EvoVlacError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
