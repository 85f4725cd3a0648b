"""VLAC's done and value in an environment worker that somebody already has, by three lines of shm_bridge.

    driver --actions--> worker process: robosuite --frames--> lane --> python -m sidecar (running already)
           <--results--                           <---- done, value ----'

The worker is a plain one, as RL code has it: a process, two queues, a loop of gym steps. Of this project it uses only
``shm_bridge``, which installs without the rest (``pip install ./shm_bridge``: numpy and posix_ipc). The lines that were
added are marked. In one terminal, then in another:

    python -m sidecar run_id=demo model=models/vlac-tiny
    python examples/adapter_env_worker.py --run-id demo
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import queue
from typing import Any

import numpy as np

from shm_bridge import Controller, CriticAdapter, SidecarUnreachable

TASK = "lift the red cube"


def worker(run_id: str, max_steps: int, seeds: Any, results: Any) -> None:
    """Runs an episode for each seed until None comes; puts a dictionary for each."""
    env = make_env()
    critic = CriticAdapter(run_id, max_steps, name=f"worker-{os.getpid()}")  # added: 1
    while (seed := seeds.get(timeout=60)) is not None:
        np.random.seed(seed)  # robosuite's own source of randomness
        observation = env.reset()
        critic.reset(TASK, upright(observation))  # added: 2
        done, value = False, None
        for _ in range(max_steps):
            observation, _, _, _ = env.step(policy(observation))
            verdict = critic.done(upright(observation))  # added: 3
            done = verdict.valid and verdict.done
            if done:
                break
        if not done:
            value = critic.value()  # the reward of an episode that never was done
        success = bool(env._check_success())
        reward = 1.0 if done else value
        results.put({"seed": seed, "steps": verdict.step, "done": done, "reward": reward, "simulator": success})
    critic.close()
    env.close()


def make_env() -> Any:
    """robosuite's Lift with one camera, as its users make it."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    import robosuite

    controller = robosuite.load_controller_config(default_controller="OSC_POSE")
    return robosuite.make(
        "Lift",
        robots="Panda",
        controller_configs=controller,
        control_freq=20,
        ignore_done=True,
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_names="agentview",
        camera_heights=112,
        camera_widths=112,
    )


def upright(observation: dict[str, np.ndarray]) -> np.ndarray:
    """robosuite's images come bottom row first; a view on them the right way up."""
    return observation["agentview_image"][::-1]


def policy(observation: dict[str, np.ndarray]) -> np.ndarray:
    """Stands for the policy: goes over the cube, down, closes, lifts."""
    lead = observation["cube_pos"] - observation["robot0_eef_pos"]
    action = np.zeros(7)
    action[6] = -1.0  # open
    above = np.abs(lead[:2]).max() < 0.015
    closed = observation["robot0_gripper_qpos"][0] < 0.03
    if above and abs(lead[2]) < 0.015:
        action[2], action[6] = float(closed), 1.0
    else:
        action[:3] = np.clip([*lead[:2] * 10, (lead[2] if above else lead[2] + 0.06) * 10], -1, 1)
    return action


def next_result(results: Any, process: Any) -> dict[str, Any]:
    """What the worker reports next. Ends this program when the worker has ended: it has said why."""
    while True:
        try:
            result: dict[str, Any] = results.get(timeout=1)
            return result
        except queue.Empty:
            if not process.is_alive():
                raise SystemExit(f"error: the worker ended with exit code {process.exitcode}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="An environment worker that asks a running sidecar.")
    parser.add_argument("--run-id", required=True, help="of the running sidecar")
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--max-steps", type=int, default=64)
    arguments = parser.parse_args()
    try:
        Controller.connect(arguments.run_id, timeout=2).close()
    except SidecarUnreachable as error:  # before a simulator is built
        raise SystemExit(f"error: {error}\n  start one: python -m sidecar run_id=... (see this file's head)") from None
    context = mp.get_context("spawn")
    seeds, results = context.Queue(), context.Queue()
    process = context.Process(target=worker, args=(arguments.run_id, arguments.max_steps, seeds, results))
    process.start()
    try:
        for seed in [*range(arguments.episodes), None]:
            seeds.put(seed)
        for _ in range(arguments.episodes):
            print(next_result(results, process), flush=True)
        process.join(30)
    finally:
        process.kill()
        process.join()


if __name__ == "__main__":
    main()
