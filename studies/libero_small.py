"""What LIBERO costs on one core, and what its scripted experts reach.

    python -m studies.libero_small cost                # CPU time of a step, a frame, a reset, a scene
    python -m studies.libero_small experts             # success from each of the 50 published states; seed = state
    python -m studies.libero_small experts --fresh 20  # from states of LIBERO's own placement sampler

CPU time of the process, not time of day: the machine may be busy with other things.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: one thread

import numpy as np

from verl.envs.collect import LIBERO_STEPS, task_name
from verl.envs.libero_env import LiberoConfig, LiberoEnv
from verl.envs.scripted import ScriptedExpert
from verl.envs.scripted_libero import SCRIPTS, SUITE
from verl.envs.seed_split import evaluation_seed

TASKS = (5, 7, 8)
PICTURES = ((256, True, 4), (256, False, 4), (256, False, 0), (128, False, 0), (112, False, 0), (64, False, 0))
MOVE = np.array([0.2, 0.1, -0.1, 0.0, 0.0, 0.0, -1.0])


def milliseconds(work: Callable[[], object], times: int) -> float:
    """CPU time of one of so many."""
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times * 1e3


def cost() -> None:
    """Prints a line a setting. The first scene takes the imports with it and is not counted."""
    for split in (False, True):
        env = LiberoEnv(LiberoConfig(SUITE, (7, 8), effects=False, samples=0, image_size=64, split_step=split))
        env.reset(0, 0)
        scene, kept = milliseconds(partial(env.reset, 0, 1), 1), milliseconds(partial(env.reset, 1, 1), 3)
        step = milliseconds(partial(env.step, MOVE), 50)
        env.close()
        tell(f"split_step={split}: step {step:.1f} ms, new scene {scene:.0f} ms, reset of a kept one {kept:.0f} ms")
    for size, effects, samples in PICTURES:
        config = LiberoConfig(SUITE, (7,), effects=effects, samples=samples, image_size=size, num_steps_wait=0)
        env = LiberoEnv(config)
        env.reset(0)
        out = np.zeros(env.cameras[0].shape, np.uint8)
        env.render("agentview", out)
        frame = milliseconds(partial(env.render, "agentview", out), 16)
        env.close()
        tell(f"image_size={size} effects={effects} samples={samples}: frame {frame:.1f} ms")


def experts(fresh: int) -> None:
    """Prints a line a task: success at the episode's end, and its length."""
    config = LiberoConfig(
        SUITE,
        TASKS,
        LIBERO_STEPS,
        image_size=16,
        effects=False,
        samples=0,
        keep=len(TASKS),
        val_trials="as_published",
        fresh_states=fresh > 0,
    )
    env = LiberoEnv(config)
    for task in range(len(TASKS)):
        ends, steps = [], []
        for number in range(fresh or len(config.states(training=False))):
            seed = evaluation_seed(0, number) if fresh else number
            env.reset(seed, task, training=False)
            expert = ScriptedExpert(task_name(config, task), "success", seed, LIBERO_STEPS, SCRIPTS)
            done, step = False, 0
            while (action := expert.act(env.objects())) is not None:
                done, step = env.step(action), step + 1
            ends.append(done)
            steps.append(step)
        tell(f"{env.instruction}: {sum(ends)} of {len(ends)}, steps {np.mean(steps):.0f} (most {max(steps)})")
    env.close()


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m studies.libero_small", description="LIBERO on one core.")
    parser.add_argument("what", choices=["cost", "experts"])
    parser.add_argument("--fresh", type=int, default=0, help="so many states of the placement sampler, not the table")
    chosen = parser.parse_args()
    if chosen.what == "cost":
        cost()
    else:
        experts(chosen.fresh)
