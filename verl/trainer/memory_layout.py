"""Who is where on a node of a run, by the configuration alone: what the memory plan multiplies with."""

from __future__ import annotations

from dataclasses import dataclass

from verl.config import Config
from verl.envs.base import Camera
from verl.envs.factory import describe
from verl.trainer import memory_parts as parts


@dataclass(frozen=True, slots=True)
class Layout:
    """Who is where, on the node that holds the most.

    Attributes:
        gpus: of a node.
        ranks: learners of the node; ``world``: of the run.
        workers, environments: of the node.
        on_card: rollout workers of one card.
        steps: of the longest episode; ``chunks``: its decisions.
        seen: bytes of what the policy sees at one decision, and of what the critic sees at one step.
        lanes: of the node.
    """

    gpus: int
    ranks: int
    world: int
    workers: int
    environments: int
    on_card: int
    steps: int
    chunks: int
    cameras: tuple[Camera, ...]
    lanes: int

    @property
    def seen(self) -> int:
        return sum(3 * camera.height * camera.width for camera in self.cameras)

    @classmethod
    def of(cls, config: Config, gpus: int) -> Layout:
        """``gpus``: of a node where the configuration says nothing."""
        rollout, trainer, critic = config.rollout, config.trainer, config.critic
        gpus = gpus if trainer.n_gpus_per_node is None else trainer.n_gpus_per_node
        world = config.actor.fsdp_config.world_size or max(1, gpus * trainer.nnodes)
        cameras, steps = describe(config.env)
        environments = rollout.workers * rollout.envs_per_worker
        rolls_on_card = gpus > 0 and rollout.device != "cpu" and (rollout.gpus_per_worker > 0 or bool(rollout.device))
        return cls(
            gpus=gpus,
            ranks=-(-world // trainer.nnodes) if gpus else world,
            world=world,
            workers=rollout.workers,
            environments=environments,
            on_card=-(-rollout.workers // gpus) if rolls_on_card else 0,
            steps=steps,
            chunks=parts.chunks(steps, config.model.action_chunks_len),
            cameras=cameras,
            lanes=environments * (2 if critic.overlap else 1) if critic.asked else 0,
        )
