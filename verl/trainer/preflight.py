"""Looks at everything that can be wrong before any time is spent: paths, tasks, sizes, run ids."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata

import yaml

from evo_vlac import gpu_node
from evo_vlac.paths import from_home
from verl.config import Config
from verl.critic_config import CriticConfig
from verl.envs.factory import check as check_environment
from verl.errors import ConfigError
from verl.models.checkpoint_parts import Parts, find_parts, has_tensors
from verl.trainer import capacity
from verl.trainer.device_pairs import check_devices
from verl.trainer.run_folder import named_checkpoint
from verl.workers.sidecar_host import sidecar_python, sidecar_settings

POLICY = "openvla"  # OpenVLA-OFT
logger = logging.getLogger(__name__)
NOTICE = "warning: "
CHECK_S = 60.0  # for an interpreter on a slow disk; it takes 0.3 s


def preflight(config: Config) -> None:
    """Raises :class:`ConfigError`, naming the first thing that cannot work."""
    for _, check in CHECKS:
        check(config)
    if (line := gpu_node.unseen()) is not None:
        logger.warning("%s", line)
    if (found := capacity.of_config(config)) is not None:
        logger.log(logging.WARNING if found.waiting else logging.INFO, "%s", found.line())


def namesakes() -> Iterator[str]:
    """A line for each installed package that has the name of one of ours: its files may lie in the same folder."""
    for name in ("verl", "sidecar"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        yield f"a package {name!r} {version} that is not this project's is installed beside it: uninstall one of them"


def check_policy(config: Config) -> None:
    """The policy's folder has a configuration, weights, and the statistics that ``unnorm_key`` names; the policy takes
    as many images as there are cameras."""
    key = "actor_rollout_ref.model.path"
    parts = _checkpoint(key, config.model.path)
    folder = parts.folder
    statistics = folder / "dataset_statistics.json"
    known = json.loads(statistics.read_text()) if statistics.is_file() else {}
    published = json.loads(parts.config.read_text())
    if (kind := published.get("model_type")) != POLICY:
        critic = "; a critic is named by critic.sidecar.config.model" if "internvl" in str(kind) else ""
        raise ConfigError(
            f"{key}={config.model.path}: a checkpoint of model_type={kind!r}; allowed is {POLICY}{critic}"
        )
    known = known or published.get("norm_stats", {})
    wanted = config.rollout.unnorm_key
    if wanted not in known and f"{wanted}_no_noops" not in known:
        raise ConfigError(
            f"actor_rollout_ref.rollout.unnorm_key={wanted}: {folder} has statistics of "
            f"{', '.join(sorted(known)) or 'nothing'}"
        )
    images = config.actor.num_images_in_input or published.get("num_images_in_input", 1)
    cameras = config.env.get("cameras")
    if isinstance(cameras, list) and len(cameras) != images:
        raise ConfigError(
            f"env.cameras={cameras}: the policy takes {images} images; allowed are as many cameras, or another "
            "env.num_images_in_input"
        )


def check_cards(config: Config) -> None:
    """A GPU that is asked for here and that torch does not see: an actor would find it, after minutes."""
    if config.trainer.ray_address is not None:
        return  # they are on other machines
    import torch

    if torch.cuda.device_count():
        return  # whether they are enough Ray knows
    unseen = gpu_node.unseen()
    why = unseen or "this machine has no GPU, or CUDA_VISIBLE_DEVICES hides it"
    critic, gpus = config.critic, config.trainer.n_gpus_per_node
    asked = {"actor_rollout_ref.rollout.device": config.rollout.device}
    if unseen is None and critic.asked and critic.sidecar.start:  # else its own Python's torch may see it
        asked["critic.sidecar.config.device"] = critic.sidecar.config.get("device")
    for key, value in asked.items():
        if str(value).startswith("cuda"):
            raise ConfigError(f"{key}={value}: {why}; allowed is cpu")
    if gpus or (gpus is None and unseen):
        raise ConfigError(f"trainer.n_gpus_per_node={gpus}: {why}. 0 computes on the CPU")


def check_critic(config: Config) -> None:
    """The sidecar's own keys, where the run starts one."""
    if config.critic.asked and config.critic.sidecar.start:
        check_sidecar(config.critic, config.trainer.n_gpus_per_node)


def check_sidecar(critic: CriticConfig, gpus: int | None) -> None:
    """The sidecar's own keys, as ``python -m sidecar --check`` judges them: with the interpreter that will run it."""
    python = sidecar_python(critic.sidecar.python)
    try:
        done = subprocess.run(
            [python, "-m", "sidecar", "--check", "--config", "/dev/stdin"],
            input=yaml.safe_dump(sidecar_settings(critic, "check", gpus)),
            capture_output=True,
            text=True,
            timeout=CHECK_S,
            check=False,
        )
    except OSError as error:
        raise ConfigError(f"critic.sidecar.python={python}: cannot be run ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"critic.sidecar.python={python}: no answer to --check within {CHECK_S:g} s") from None
    if done.returncode == 0:
        for line in done.stderr.splitlines():
            if line.startswith(NOTICE):
                logger.warning("critic.sidecar.config.%s", line.removeprefix(NOTICE))
        return
    problems = [_in_our_tree(line, critic) for line in done.stdout.splitlines()]
    if not problems:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConfigError(f"critic.sidecar.python={python}: cannot check the sidecar's configuration: {last}")
    raise ConfigError("\n       ".join(problems))


def _in_our_tree(problem: str, critic: CriticConfig) -> str:
    """The sidecar's line with the key as it stands in the training's configuration."""
    key = re.split(r"[.=:]", problem, maxsplit=1)[0]
    if key == "threshold" and key not in critic.sidecar.config:
        return f"critic.{problem}"
    where = "critic.sidecar.config."
    return where + problem.replace("did you mean ", f"did you mean {where}")


def _checkpoint(key: str, path: str) -> Parts:
    folder = from_home(path)
    if not folder.is_dir():
        raise ConfigError(f"{key}={path}: no such folder")
    parts = find_parts(folder)
    if parts.problem:
        raise ConfigError(f"{key}={path}: {parts.problem}")
    if not parts.config.is_file():
        raise ConfigError(f"{key}={path}: not a checkpoint, config.json is missing")
    if not has_tensors(parts.base):
        raise ConfigError(f"{key}={path}: not a checkpoint, no *.safetensors in it")
    try:
        json.loads(parts.config.read_text())
    except json.JSONDecodeError as error:
        raise ConfigError(f"{key}={path}: config.json is broken ({error})") from None
    return parts


# Name and check, in their order; each raises a ConfigError. ``./launch.sh preflight`` has a line for each of them. The
# cards are last: they import torch, which takes seconds.
CHECKS: tuple[tuple[str, Callable[[Config], object]], ...] = (
    ("settings", check_devices),
    ("policy", check_policy),
    ("environment", lambda config: check_environment(config.env)),
    ("checkpoint to go on from", lambda config: named_checkpoint(config.trainer)),
    ("critic", check_critic),
    ("devices", check_cards),
)
