"""One of each thing that a run does, for real: ``python -m verl.preflight.trials TRIAL [--config FILE] [key=value]``.

policy: loaded as a rollout worker loads it, one forward pass. frame: one task's simulator, one picture. verdict: a
sidecar as the run would start it, one done about a shipped picture. cluster (:mod:`verl.preflight.cluster_trial`): a
bucket of weights from a learner to a worker, and a collective of all learners.
"""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from verl.config import Config
from verl.errors import VerlError
from verl.preflight.line import Line, bad, good, look
from verl.preflight.steps import say

PICTURE = Path(__file__).with_name("lift.png")
TASK = "lift the red cube"
ATTACH_S = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Says its lines; exit code 0, and 1 after an error, which is a line, too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trial", choices=sorted(TRIALS))
    parser.add_argument("--config")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args(arguments)
    from verl.models.openvla_oft.errors import PolicyError
    from verl.trainer.load_config import load_config

    name, trial = TRIALS[given.trial]
    try:
        config, _ = load_config(given.overrides, given.config)
        for line in trial(config):
            say(line)
        return 0
    except (VerlError, PolicyError, OSError, RuntimeError) as error:  # RuntimeError: torch's, of memory and of CUDA
        say(bad(name, " ".join(str(error).split())[:600] or type(error).__name__))
        return 1


def policy(config: Config) -> Iterator[Line]:
    """A pass over one observation, every picture black."""
    import torch

    from verl.envs.base import PROPRIO_DIM
    from verl.envs.factory import describe
    from verl.trainer.assemble import rollout_options
    from verl.workers.device import given_device
    from verl.workers.rollout import load_policy

    options = rollout_options(config, "preflight")
    device = given_device(options.gpus, options.device)
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    loaded = load_policy(options, device)
    load_s = time.monotonic() - began
    cameras, _ = describe(config.env)
    images = np.stack([np.zeros(camera.shape, np.uint8) for camera in cameras])[None]
    began = time.monotonic()
    output = loaded.predict(images, [TASK], np.zeros((1, PROPRIO_DIM), np.float32), temperature=0.0)
    pass_s = time.monotonic() - began
    if not (np.isfinite(output.actions).all() and torch.isfinite(output.log_probs).all()):
        yield bad("policy's pass", f"actions or log-probabilities are not finite: {output.actions[0, 0]}")
        return
    held = f", {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB of the card" if device.type == "cuda" else ""
    where = f"in {options.dtype} on {device}{held}"
    yield good("policy's pass", f"loaded in {load_s:.1f} s, a chunk in {pass_s:.2f} s, {where}")


def frame(config: Config) -> Iterator[Line]:
    """The first task's first picture, by the first camera."""
    from verl.envs.egl import renderer, software_beside_gpus
    from verl.envs.factory import create_environment

    env = create_environment(config.env)
    try:
        env.reset(0, 0)
        camera = env.cameras[0]
        picture = np.zeros(camera.shape, np.uint8)
        began = time.monotonic()
        env.render(camera.name, picture)
        took = time.monotonic() - began
        drawn_by = renderer() or "unknown"
    finally:
        env.close()
    if int(picture.max()) == int(picture.min()):
        yield bad("frame", f"the picture of {camera.name} is of one colour ({picture.max()}): {drawn_by}")
        return
    yield good("frame", f"{camera.name}, {camera.width} x {camera.height}, in {took * 1000:.0f} ms")
    line = software_beside_gpus(drawn_by)
    yield good("renderer", drawn_by) if line is None else look("renderer", line)


def verdict(config: Config) -> Iterator[Line]:
    """Through the interpreter, the settings and the lane of a run."""
    from verl.trainer.load_limits import LoadLimit, verdict_s
    from verl.workers.sidecar_host import SidecarHost, write_sidecar_settings

    run_id = f"preflight-{secrets.token_hex(4)}"
    critic = dataclasses.replace(config.critic, run_id=run_id)
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
        log = Path(folder, "sidecar.log")
        settings = write_sidecar_settings(critic, run_id, Path(folder, "sidecar.yaml"), config.trainer.n_gpus_per_node)
        host = SidecarHost(run_id, str(settings), str(log), critic.sidecar.python, 0)
        began = time.monotonic()
        host.start()
        try:
            host.wait_ready(LoadLimit.of_critic(critic).seconds)
            ready_s = time.monotonic() - began
            yield _ask(run_id, ready_s, verdict_s(critic))
        finally:
            host.stop()


def _ask(run_id: str, ready_s: float, patience: float) -> Line:
    """``ready_s``: what the start took; ``patience``: seconds for the verdict, a run's."""
    from PIL import Image

    from shm_bridge import CameraSpec, Kind, Lane, LaneSpec

    picture = np.asarray(Image.open(PICTURE).convert("RGB"))
    spec = LaneSpec(cameras=(CameraSpec("preflight", *picture.shape[:2]),), frames=2, questions=2)
    lane = Lane.attach(run_id, spec, timeout=ATTACH_S, name="preflight")
    try:
        lane.begin_episode(episode=0, task=TASK)
        slot = lane.reserve(timeout=ATTACH_S)
        slot["preflight"][...] = picture
        lane.publish(slot, step=0)
        began = time.monotonic()
        answer = lane.wait(lane.ask(Kind.DONE, slot, timeout=ATTACH_S), patience)
        took = time.monotonic() - began
    finally:
        lane.close()
    if not answer.valid:
        return bad("verdict", f"the critic's reply cannot be read ({answer.status.name}): is it a VLAC?")
    said = f"P(done) {answer.probability:.2f} of a shipped picture in {took * 1000:.0f} ms"
    return good("verdict", f"{said}, the sidecar was ready after {ready_s:.1f} s")


def cluster(config: Config) -> Iterator[Line]:
    from verl.preflight.cluster_trial import run

    return run(config)


TRIALS: dict[str, tuple[str, Callable[[Config], Iterator[Line]]]] = {
    "policy": ("policy's pass", policy),
    "frame": ("frame", frame),
    "verdict": ("verdict", verdict),
    "cluster": ("weights and collective", cluster),
}

if __name__ == "__main__":
    sys.exit(main())
