"""Settings about devices that cannot work together, refused before anything starts, with what would be allowed."""

from __future__ import annotations

import re

from verl.config import Config
from verl.errors import ConfigError
from verl.trainer.placement import make_plan

GPUS, SHARE, DEVICE = (
    "trainer.n_gpus_per_node",
    "actor_rollout_ref.rollout.gpus_per_worker",
    "actor_rollout_ref.rollout.device",
)


def check_devices(config: Config) -> None:
    """Raises ConfigError, naming the first pair."""
    for check in (_nodes, _workers_share, _workers_device, _critic, _critics_card):
        check(config)
    if config.trainer.n_gpus_per_node is not None:  # else only the cluster knows how many are there
        make_plan(config, [float(config.trainer.n_gpus_per_node)] * config.trainer.nnodes)


def _nodes(config: Config) -> None:
    if config.trainer.nnodes > 1 and config.trainer.ray_address is None:
        raise ConfigError(
            f"trainer.nnodes={config.trainer.nnodes} with trainer.ray_address=null: a Ray of the run's own has this "
            "node alone; allowed are nnodes=1, or the address of a cluster (auto: the one that this node has joined)"
        )


def _workers_share(config: Config) -> None:
    share, gpus = config.rollout.gpus_per_worker, config.trainer.n_gpus_per_node
    if share > 0 and gpus == 0:
        raise ConfigError(f"{SHARE}={share:g} with {GPUS}=0: no GPU is taken that could be shared; allowed is 0")
    if share > 1 and share != int(share):
        raise ConfigError(f"{SHARE}={share:g}: Ray gives a part of one GPU, or whole ones; allowed: 0 to 1, 2, 3, ...")


def _workers_device(config: Config) -> None:
    share, device = config.rollout.gpus_per_worker, config.rollout.device
    if device is None:
        return
    said = f"{DEVICE}={device}"
    if device == "cpu":
        if share > 0:
            raise ConfigError(f"{said} with {SHARE}={share:g}: it would hold a GPU and not use it; allowed is 0")
        return
    if config.trainer.n_gpus_per_node == 0:
        raise ConfigError(f"{said} with {GPUS}=0: the run takes no GPU; allowed are null, cpu")
    index = int((re.search(r"\d+", device) or ["0"])[0])
    if share > 0 and index >= max(1, int(share)):
        raise ConfigError(
            f"{said} with {SHARE}={share:g}: a worker sees the GPU that Ray gave it alone, as cuda:0; allowed is null"
        )


def _critic(config: Config) -> None:
    sidecar = config.critic.sidecar
    engine = sidecar.config.get("engine")
    if config.critic.asked and sidecar.start and sidecar.per == "gpu" and engine == "openai":
        raise ConfigError(
            "critic.sidecar.per=gpu with critic.sidecar.config.engine=openai: it loads no model here; allowed is node, "
            "and several addresses in critic.sidecar.config.openai.url"
        )


def _critics_card(config: Config) -> None:
    """On a cluster it sees the run's GPUs of its node and no others', numbered from 0."""
    sidecar, gpus = config.critic.sidecar, config.trainer.n_gpus_per_node
    if config.trainer.ray_address is None or not gpus or not (config.critic.asked and sidecar.start):
        return
    for key in ("device", "devices"):
        value = str(sidecar.config.get(key))
        if any(int(index) >= gpus for index in re.findall(r"cuda:(\d+)", value)):
            raise ConfigError(
                f"critic.sidecar.config.{key}={value} with {GPUS}={gpus}: on a cluster the critic sees the run's GPUs "
                f"of its node alone; allowed are cuda:0 to cuda:{gpus - 1}"
            )
