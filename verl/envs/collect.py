"""Scripted episodes as a robomimic-style HDF5 file: the policy's demonstrations and the critic's training frames.

    python -m verl.envs.collect --env robosuite --task Lift --out FILE.h5 --episodes 200 \
        --kinds success:0.4,failure:0.2,near_miss:0.2,drop:0.1,idle:0.1 --seed 0 --workers 2

Episode i has seed ``--seed`` + i, so its initial state, its kind and its script depend on that number alone, whatever
the number of workers. The layout is this project's of :mod:`evo_vlac.datasets.hdf5`: T actions of 7 numbers; T + 1
frames of every camera, ``dones`` (the simulator's success at each of them), proprioception, and the simulator's
positions of the end effector and each object.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.datasets.trajectory import Trajectory
from evo_vlac.errors import EvoVlacError
from verl.envs.robosuite_env import TASKS, RobosuiteConfig, RobosuiteEnv
from verl.envs.scripted import KINDS, ScriptedExpert
from verl.errors import ConfigError, VerlError

logger = logging.getLogger(__name__)


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


def parse_kinds(text: str) -> dict[str, float]:
    """``success:0.4,failure:0.2`` to weights; a name alone weighs 1."""
    kinds: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition(":")
        if name not in KINDS:
            raise ConfigError(f"--kinds: {name!r} is unknown; allowed are {', '.join(KINDS)}")
        try:
            kinds[name] = float(weight or 1.0)
        except ValueError as error:
            raise ConfigError(f"--kinds {name}:{weight}: the weight must be a number") from error
        if not 0 <= kinds[name] < float("inf"):
            raise ConfigError(f"--kinds {name}:{weight}: the weight must be 0 or more")
    if sum(kinds.values()) <= 0:
        raise ConfigError(f"--kinds {text!r}: at least one weight must be over 0")
    return kinds


def record(env: RobosuiteEnv, task: int, kind: str, seed: int) -> Demo:
    """Runs one scripted episode to its end."""
    name = env.config.tasks[task]
    env.reset(seed, task)
    expert = ScriptedExpert(name, kind, seed, env.max_steps)
    frames = {c.name: np.empty((env.max_steps + 1, *c.shape), np.uint8) for c in env.cameras}
    actions, dones, proprio, objects = [], [False], [env.proprio()], [env.objects()]
    _draw(env, frames, 0)
    while (action := expert.act(objects[-1])) is not None:
        dones.append(env.step(action))
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
        objects={key: np.stack([seen[key] for seen in objects]).astype(np.float32) for key in objects[0]},
    )
    return Demo(trajectory, kept)


def _draw(env: RobosuiteEnv, frames: dict[str, np.ndarray], step: int) -> None:
    for name, buffer in frames.items():
        env.render(name, buffer[step])


_worker_env: RobosuiteEnv | None = None


def _start_worker(config: RobosuiteConfig) -> None:
    global _worker_env
    _worker_env = RobosuiteEnv(config)


def _work(job: tuple[str, int]) -> Demo:
    assert _worker_env is not None
    kind, seed = job
    return record(_worker_env, 0, kind, seed)


def episodes(config: RobosuiteConfig, kinds: dict[str, float], first: int, count: int, workers: int) -> Iterator[Demo]:
    """``count`` scripted episodes of ``config.tasks[0]``, seeds from ``first``, in order."""
    jobs = [(choose_kind(kinds, seed), seed) for seed in range(first, first + count)]
    if workers <= 1:
        _start_worker(config)
        yield from map(_work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, (config,)) as pool:
        yield from pool.imap(_work, jobs)


def collect(out: Path, config: RobosuiteConfig, kinds: dict[str, float], first: int, count: int, workers: int) -> None:
    """Writes ``count`` episodes to ``out``, all or nothing: the file appears when it is whole."""
    task = TASKS[config.tasks[0]]
    writer = Hdf5Writer(out, "robosuite", task.instruction, config.cameras[0], task_name=task.name)
    with writer, Progress(disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"{task.name} episodes", total=count)
        successes = 0
        for demo in episodes(config, kinds, first, count, workers):
            writer.write(demo.trajectory, demo.other_cameras)
            successes += bool(demo.trajectory.success)
            progress.advance(bar)
            if writer.count % 50 == 0:
                logger.info("%d of %d episodes, %d successes", writer.count, count, successes)
    logger.info("%s: %d episodes, %d successes", out, count, successes)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verl.envs.collect", description="Collects scripted episodes.")
    parser.add_argument("--env", default="robosuite", choices=["robosuite"])
    parser.add_argument("--task", default="Lift", help=f"one of {', '.join(TASKS)}")
    parser.add_argument("--out", type=Path, required=True, help="the HDF5 file to write")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--kinds", default="success", help=f"name:weight,...; names: {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first episode; episode i has seed + i")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=64)
    parser.add_argument("--cameras", default="agentview", help="names, separated by commas")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--cube-within", type=float, help="metres: cubes lie in a square of +- so much")
    parser.add_argument("--zoom", type=float, default=1.0, help="of the first camera")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: one thread a process, the processes are the parallelism
    try:
        config = RobosuiteConfig(
            tasks=(options.task,),
            max_steps=options.max_steps,
            cameras=tuple(options.cameras.split(",")),
            image_size=options.image_size,
            cube_within=options.cube_within,
            zoom=options.zoom,
        )
        collect(options.out, config, parse_kinds(options.kinds), options.seed, options.episodes, options.workers)
    except (VerlError, EvoVlacError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
