"""How much memory a run takes, and where: reckoned before anything starts, from configuration and shapes alone.

    found = memory_plan(config, policy_shape(folder), critic_shape(folder))
    found.most("card"), found.most("host"), found.most("shm")     bytes of one card, of one node's memory, of /dev/shm

Each process's parts are entered for three phases: load (everything starts side by side), rollout, update. What a phase
takes is their sum; what must be there is the largest of the three. The formulas: :mod:`verl.trainer.memory_parts`;
what processes take before they have loaded anything: :mod:`verl.trainer.memory_base`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evo_vlac.model_shape import ModelShape
from shm_bridge import CameraSpec, LaneSpec
from shm_bridge.memory.memory_plan import control_bytes, lane_bytes
from verl.config import Config
from verl.trainer import memory_base as base
from verl.trainer import memory_parts as parts
from verl.trainer.memory_layout import Layout
from verl.trainer.memory_shapes import PolicyShape
from verl.trainer.ray_store import bucket_of, store_for
from verl.workers.weight_buckets import IN_FLIGHT, ON_CARD_BYTES

PHASES = ("load", "rollout", "update")
CARD, HOST, SHM = "card", "host", "shm"
PLACES = (CARD, HOST, SHM)
STORE = "Ray's store"
LANES = 256  # of a control segment, where the sidecar's configuration does not say (``max_lanes``)
LOADING = ("direct", "swift", "vllm")  # engines that hold a model


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one thing in one place, in each phase.

    Attributes:
        where: card (of one card), host (of one node, without /dev/shm), shm (/dev/shm of one node).
        who: the kind of process; on the host all of the node's together.
        what: of it.
        count: processes of the kind there; the bytes are of all of them.
    """

    where: str
    who: str
    what: str
    count: int
    load: float
    rollout: float
    update: float

    def of(self, phase: str) -> float:
        return float(getattr(self, phase))


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """All parts of a run; the cards and the nodes are those that hold the most."""

    parts: tuple[Part, ...]

    def at(self, where: str, who: str | None = None) -> list[Part]:
        """The parts in one place, of one kind of process or of all."""
        return [part for part in self.parts if part.where == where and who in (None, part.who)]

    def kinds(self, where: str) -> list[str]:
        """The kinds of processes in one place, in the order in which they were entered."""
        return list(dict.fromkeys(part.who for part in self.at(where)))

    def total(self, where: str, phase: str, who: str | None = None) -> float:
        """Bytes in one phase."""
        return sum(part.of(phase) for part in self.at(where, who))

    def most(self, where: str, who: str | None = None) -> float:
        """Bytes in the phase that takes the most."""
        return max(self.total(where, phase, who) for phase in PHASES)

    def fullest(self, where: str) -> str:
        """The phase that takes the most."""
        return max(PHASES, key=lambda phase: self.total(where, phase))


def memory_plan(config: Config, policy: PolicyShape, critic: ModelShape, gpus: int = 0) -> MemoryPlan:
    """The plan of a run.

    Args:
        policy, critic: see :mod:`verl.trainer.memory_shapes`.
        gpus: of a node, where ``trainer.n_gpus_per_node`` is null.
    """
    layout = Layout.of(config, gpus)
    found: list[Part] = [
        *_driver(config, layout),
        *_learners(config, layout, policy),
        *_rollout(config, layout, policy),
    ]
    found += [*_environments(config, layout), *_critic(config, layout, critic), *_ray(config, layout, policy)]
    return MemoryPlan(tuple(part for part in found if part.load or part.rollout or part.update))


def samples_bytes(config: Config, layout: Layout) -> float:
    """What an update's samples take, nearly all of it pictures: episodes x their chunks x what is seen at each.

    Every episode counted at its full length: most of an untrained policy's are.
    """
    data, actor = config.data, config.actor
    episodes = data.train_batch_size * data.n_samples
    replayed = 1 + actor.replay_share if actor.imitation_coeff > 0 else 1.0
    return episodes * layout.chunks * layout.seen * replayed


def store_wanted(config: Config, layout: Layout) -> float:
    """What Ray's object store is made for: episodes that end together and are on their way to the driver. What else
    goes through it is cut into buckets that fit."""
    return float(layout.environments * config.trainer.nnodes * layout.chunks * layout.seen)


def store_bytes(config: Config, layout: Layout, weights: float) -> float:
    """What Ray's object store of a node holds at once: what it is made for; later buckets of an update's pictures, and
    of weights.

    Args:
        weights: bytes that are handed over in all.
    """
    ended, in_flight = store_wanted(config, layout), IN_FLIGHT * layout.world
    on_way = in_flight * bucket_of(store_for(ended), in_flight)
    sent = max(samples_bytes(config, layout), 0.0 if layout.on_card else weights)
    return max(ended, min(sent, float(on_way)))


# ---- the parts of each kind of process


def _driver(config: Config, layout: Layout) -> Iterator[Part]:
    """The episodes of a rollout; an update's samples are views of their pictures."""
    episodes = samples_bytes(config, layout)
    kept = config.actor.replay_episodes * layout.chunks * layout.seen if config.actor.imitation_coeff > 0 else 0.0
    video = base.VIDEO if config.trainer.videos else 0.0
    yield Part(HOST, "driver", "process", 1, *[base.DRIVER + base.LAUNCHER] * 3)
    yield Part(HOST, "driver", "a video that is written", 1, 0.0, video, 0.0)
    yield Part(HOST, "driver", "episodes and samples", 1, 0.0, episodes + kept, episodes + kept)


def _learners(config: Config, layout: Layout, shape: PolicyShape) -> Iterator[Part]:
    """Of one card, or of all ranks in main memory where there is none."""
    actor, model, fsdp = config.actor, config.model, config.actor.fsdp_config
    width, lora, world = parts.WIDTHS[fsdp.dtype], model.lora_rank, layout.world
    weights = parts.learner_weights(shape, world, lora, width)
    moved = parts.FLOAT32 * parts.trained(shape, lora) / world
    work = parts.gathered(shape, lora, width) + parts.optimizer_step(shape, world, lora)
    checkpointing = model.enable_gradient_checkpointing
    made = parts.activations(shape, actor.ppo_micro_batch_size, width, checkpointing)
    reference = weights if config.algorithm.kl_ctrl.kl_coef > 0 else 0.0
    card = CARD if layout.gpus else HOST
    count = 1 if layout.gpus else layout.ranks
    held = HOST if fsdp.param_offload and layout.gpus else card
    kept = HOST if (fsdp.param_offload or fsdp.optimizer_offload) and layout.gpus else card

    def part(where: str, what: str, load: float, rollout: float, update: float) -> Part:
        many = layout.ranks if where == HOST else count
        return Part(where, "learner", what, many, *(many * size for size in (load, rollout, update)))

    yield part(HOST, "process", *[base.LEARNER + (base.CUDA_HOST if layout.gpus else 0)] * 3)
    if layout.gpus:
        context = base.CUDA_CONTEXT + (base.NCCL if world > 1 else 0)
        yield part(CARD, "CUDA and NCCL", base.CUDA_CONTEXT, context, context)
    yield part(held, "weights", weights + reference, weights + reference, weights + reference)
    yield part(HOST, "tensor being read", parts.FLOAT32 * shape.largest_tensor / world, 0.0, 0.0)
    yield part(held, "gradients", 0.0, 0.0, moved)
    yield part(kept, "optimizer", 0.0, 2 * moved, 2 * moved)
    if kept != held:
        yield part(held, "optimizer, in a step", 0.0, 0.0, 2 * moved)
    stays = 0.0 if layout.gpus else 1.0  # a card's memory is given back after an update; the C library keeps it
    yield part(card, "gathered blocks", 0.0, stays * work, work)
    yield part(card, "activations", 0.0, stays * made, made)
    if layout.on_card:
        yield part(CARD, "weights on their way", 0.0, 0.0, float(IN_FLIGHT * ON_CARD_BYTES))
    yield part(HOST, "pictures of an update", 0.0, 0.0, samples_bytes(config, layout) / world)
    mini = min(actor.ppo_mini_batch_size, config.data.train_batch_size * config.data.n_samples)
    yield part(HOST, "mini-batch", 0.0, 0.0, float(mini * layout.chunks * layout.seen))
    yield from _checkpoint(config, layout, shape, 2 * moved)


def _checkpoint(config: Config, layout: Layout, shape: PolicyShape, optimizer: float) -> Iterator[Part]:
    """What is copied before it is written: each rank's part of the optimizer, and on the first the whole policy; with
    adapters once more in float32, as they are merged."""
    width = parts.WIDTHS[config.actor.fsdp_config.dtype]
    lora = config.model.lora_rank
    whole = shape.parameters * (width + parts.FLOAT32 if lora else parts.FLOAT32)
    yield Part(HOST, "learner", "checkpoint", 1, 0.0, whole + layout.ranks * optimizer, 0.0)


def _rollout(config: Config, layout: Layout, shape: PolicyShape) -> Iterator[Part]:
    rollout, lora = config.rollout, config.model.lora_rank
    width, on_card = parts.WIDTHS[rollout.dtype], bool(layout.on_card)
    weights = parts.rollout_weights(shape, lora, width)
    fixed = rollout.deterministic is not False and not on_card
    rows = 1 if fixed else min(rollout.max_batch_size, rollout.envs_per_worker)
    passes = parts.forward_pass(shape, rows, width)
    playing = rollout.envs_per_worker * (2 if config.critic.overlap and config.critic.asked else 1)
    pictures = playing * layout.chunks * layout.seen
    where, count = (CARD, layout.on_card) if on_card else (HOST, layout.workers)

    def part(place: str, what: str, many: int, load: float, roll: float, update: float) -> Part:
        return Part(place, "rollout", what, many, *(many * size for size in (load, roll, update)))

    process = base.ROLLOUT + (base.CUDA_HOST if on_card else 0)
    yield part(HOST, "process", layout.workers, process, process, process)
    yield part(HOST, "tensor being read", layout.workers, parts.FLOAT32 * shape.largest_tensor, 0.0, 0.0)
    if on_card:
        yield part(CARD, "CUDA", count, *[base.CUDA_CONTEXT] * 3)
    yield part(where, "weights", count, weights, weights, weights)
    yield part(where, "a batch", count, 0.0, passes, passes)  # torch keeps what a pass has used
    yield part(HOST, "pictures of running episodes", layout.workers, 0.0, pictures, 0.0)


def _environments(config: Config, layout: Layout) -> Iterator[Part]:
    """Simulators, and frames that lie in memory files without a name: of an episode that the critic does not see, at
    the ends of its chunks; of the other cameras always."""
    count = layout.environments
    name = str(config.env.get("name"))
    simulator = count * base.SIMULATOR.get(name, base.OTHER_SIMULATOR)
    new = count * base.NEW_SIMULATOR[name] if name in base.NEW_SIMULATOR else simulator
    frames = (layout.chunks + 1) * layout.seen
    yield Part(HOST, "environments", "simulator", count, new, simulator, simulator)
    yield Part(HOST, "environments", "frames without the critic", count, 0.0, count * frames, count * frames)
    if layout.lanes:
        camera = layout.cameras[0]
        seen = CameraSpec(camera.name, camera.height, camera.width, orientation=camera.orientation)
        lane = lane_bytes(LaneSpec(cameras=(seen,), frames=layout.steps + 2, questions=layout.steps + 2))
        most = int(config.critic.sidecar.config.get("max_lanes", LANES))
        yield Part(SHM, "lanes", "frames, questions, verdicts", layout.lanes, *[layout.lanes * lane] * 3)
        yield Part(SHM, "lanes", "control", 1, *[float(control_bytes(most))] * 3)


def _critic(config: Config, layout: Layout, shape: ModelShape) -> Iterator[Part]:
    """One a node, or one on each card; the weights of one on a card are in main memory while it loads and in UPDATE."""
    critic, keys = config.critic, config.critic.sidecar.config
    if not critic.asked or not critic.sidecar.start:
        return
    yield Part(HOST, "sidecar", "supervisor", 1, *[base.SUPERVISOR] * 3)
    yield Part(HOST, "sidecar", "host's actor", 1, *[base.SIDECAR_HOST] * 3)
    loads = keys.get("engine", "direct") in LOADING
    on_card = loads and layout.gpus > 0 and keys.get("device", "auto") != "cpu"
    count = layout.gpus if critic.sidecar.per == "gpu" and layout.gpus and loads else 1
    process = base.SERVICE + (base.CUDA_HOST if on_card else 0)
    processes = count + (count > 1)  # several replicas have a process each, beside the service
    yield Part(HOST, "sidecar", "service", processes, *[processes * process] * 3)
    if not loads:
        return
    memory: dict[str, Any] = keys.get("memory") or {}
    width = parts.WIDTHS.get(str(keys.get("dtype", "auto")), 2 if on_card else 4)
    weights = parts.critic_weights(shape, width)
    work = _critic_work(config, layout, shape, width, on_card)
    if not on_card:
        yield Part(HOST, "sidecar", "weights", count, *[count * weights] * 3)
        yield Part(HOST, "sidecar", "caches and a batch", count, 0.0, count * work, 0.0)
        return
    stays = memory.get("on_update", "offload") == "keep"
    if (budget := memory.get("budget_gb")) is not None:
        work = max(0.0, min(work, float(budget) * 1e9 - weights))
    yield Part(CARD, "critic", "CUDA", 1, *[base.CUDA_CONTEXT] * 3)
    yield Part(CARD, "critic", "weights", 1, weights, weights, weights * stays)
    yield Part(CARD, "critic", "caches and a batch", 1, 0.0, work, work * stays)
    pinned = 0.0 if stays else count * weights
    yield Part(HOST, "sidecar", "weights, loading or pinned", count, count * weights, pinned, pinned)


def _critic_work(config: Config, layout: Layout, shape: ModelShape, width: int, on_card: bool) -> float:
    """Caches and a batch of one critic."""
    keys, data = config.critic.sidecar.config, config.data
    memory: dict[str, Any] = keys.get("memory") or {}
    features, prefixes = (
        float(memory.get(f"{name}_cache_mb", most)) * 2**20 for name, most in parts.CACHES_MIB.items()
    )
    episodes = data.train_batch_size * data.n_samples
    shown = episodes if (keys.get("reference") or {}).get("folder") else 0
    caches = parts.critic_caches(shape, width, episodes * (layout.steps + 1), shown, (features, prefixes))
    return caches + parts.critic_batch(shape, int((keys.get("batch") or {}).get("max_size", 16)), width, on_card)


def _ray(config: Config, layout: Layout, policy: PolicyShape) -> Iterator[Part]:
    yield Part(HOST, "Ray", "its own processes", 1, *[base.RAY] * 3)
    yield Part(HOST, "Ray", "a worker that finds a port", 1, base.PORT_FINDER, 0.0, 0.0)
    yield Part(HOST, "all", "code, mapped from files", 1, *[base.CODE] * 3)
    width, lora = parts.WIDTHS[config.rollout.dtype], config.model.lora_rank
    store = store_bytes(config, layout, width * (lora * policy.adapter_width if lora else policy.parameters))
    yield Part(SHM, STORE, "what is on its way", 1, 0.0, store, store)
