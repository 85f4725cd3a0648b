"""The memory plan for people: tables, and beside what this machine has the lines of the preflight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.table import Table

from evo_vlac.model_shape import VLAC_2B, ModelShape
from evo_vlac.paths import from_home
from verl.config import Config
from verl.models.checkpoint_parts import find_parts
from verl.preflight.line import Line, bad, good, look
from verl.preflight.machine import Machine
from verl.trainer import memory_plan as plans
from verl.trainer.memory_layout import Layout
from verl.trainer.memory_plan import CARD, HOST, LOADING, PHASES, SHM, MemoryPlan, memory_plan
from verl.trainer.memory_shapes import PolicyShape, critic_shape, policy_shape
from verl.trainer.ray_store import own_store_bytes, store_for

GB = 1e9
CARD_80 = 80 * GB  # an H100 shows 85.5: what its name promises is less
LEAST = 0.005 * GB  # of a part that has a row
SPARE = 0.05  # of a card that an allocator cannot use
NAMES = {CARD: "a card", HOST: "main memory of a node", SHM: "/dev/shm of a node"}


def reckon(config: Config, gpus: int = 0, published: bool = False) -> tuple[MemoryPlan, str]:
    """The plan, and a line that says of which models.

    Args:
        gpus: of a node, where the configuration does not say.
        published: a model that is not here, or has no statistics of this environment, is taken as published.
    """
    policy, told_policy = _policy(config, published)
    critic, told_critic = _critic(config, published)
    return memory_plan(config, policy, critic, gpus), f"{told_policy}; {told_critic}"


def _policy(config: Config, published: bool) -> tuple[PolicyShape, str]:
    folder: str | None = config.model.path
    if published and not _plays(from_home(config.model.path), config.rollout.unnorm_key):
        folder = None
    shape = policy_shape(folder, config.actor.num_images_in_input, config.rollout.use_proprio)
    return shape, f"policy: {_name(folder, 'OpenVLA-OFT as published')}, {_count(shape.parameters)}"


def _critic(config: Config, published: bool) -> tuple[ModelShape, str]:
    keys = config.critic.sidecar.config
    if keys.get("engine", "direct") not in LOADING or not config.critic.asked:
        return VLAC_2B, "critic: none is loaded here"
    named = keys.get("model")
    shipped = config.env.get("name") != "robosuite" and Path(str(named)).name == "vlac-tiny"
    folder = None if published and (shipped or not from_home(str(named)).is_dir()) else named
    shape = critic_shape(folder)
    as_published = "VLAC-2B as published" if shape == VLAC_2B else "as its config.json says"
    return shape, f"critic: {_name(folder, as_published)}, {_count(shape.parameters)}"


def _plays(folder: Path, unnorm_key: str) -> bool:
    """Whether a checkpoint is there and has statistics of the environment."""
    file, config = folder / "dataset_statistics.json", find_parts(folder).config if folder.is_dir() else None
    if config is None or not config.is_file():
        return False
    try:
        known = json.loads(file.read_text()) if file.is_file() else json.loads(config.read_text()).get("norm_stats", {})
    except ValueError:  # what cannot be read is said by the check that needs it
        return True
    return unnorm_key in known or f"{unnorm_key}_no_noops" in known


def _name(folder: str | None, published: str) -> str:
    return published if folder is None else Path(folder).name


def _count(parameters: int) -> str:
    return f"{parameters / GB:.2f} B" if parameters >= GB / 10 else f"{parameters / 1e6:.1f} M"


def table(plan: MemoryPlan, where: str) -> Table | None:
    """A row a part, but for those under 5 MB, a column a phase; None where nothing is taken there."""
    if not plan.at(where):
        return None
    shown = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False, title_justify="left")
    shown_parts = [part for part in plan.at(where) if max(map(part.of, PHASES)) >= LEAST]
    totals = [_gb(plan.total(where, phase)) for phase in PHASES]
    for name, foot in ((f"GB of {NAMES[where]}", "all"), ("", "")):
        shown.add_column(name, foot, no_wrap=True)
    for phase, total in zip(PHASES, totals):
        shown.add_column(phase, total, justify="right", min_width=7)
    for part in shown_parts:
        many = f"{part.count} x " if part.count > 1 else ""
        shown.add_row(many + part.who, part.what, *(_gb(part.of(phase)) for phase in PHASES))
    return shown


def _gb(size: float) -> str:
    return "" if not size else f"{size / GB:.2f}" if size < GB else f"{size / GB:.1f}"


def planned_lines(config: Config, plan: MemoryPlan) -> Iterator[Line]:
    """What can be said without the machine: whether cards of 80 GB hold it, and how much memory a node must have."""
    if plan.at(CARD):
        most, phase = plan.most(CARD), plan.fullest(CARD)
        said = f"{most / GB:.1f} GB in {phase}, of an 80 GB card"
        yield good("a card", said) if most < CARD_80 * (1 - SPARE) else bad("a card", f"{said}: {_smaller(plan)}")
    yield good(NAMES[HOST], f"{plan.most(HOST) / GB:.1f} GB in {plan.fullest(HOST)}")
    yield good(NAMES[SHM], f"{plan.most(SHM) / GB:.2f} GB: {_shm(plan)}")


def machine_lines(config: Config, plan: MemoryPlan, machine: Machine) -> Iterator[Line]:
    """The plan beside what there is and what is free."""
    if plan.at(CARD) and machine.cards:
        card = min(machine.cards, key=lambda one: one.free)
        most = plan.most(CARD)
        said = (
            f"{most / GB:.1f} GB in {plan.fullest(CARD)}; {card.name}: {card.total / GB:.1f}, free {card.free / GB:.1f}"
        )
        if most > card.total * (1 - SPARE):
            yield bad("a card", f"{said}: {_smaller(plan)}")
        elif most > card.free:
            yield bad("a card", f"{said}: somebody else holds the rest (nvidia-smi)")
        else:
            yield good("a card", said)
    yield _room(NAMES[HOST], plan.most(HOST), machine.memory, machine.memory_free, _less_memory(plan))
    more = f"{_shm(plan)}; a container's --shm-size=, fewer environments, or critic.overlap=false (half the lanes)"
    yield _room(NAMES[SHM], plan.most(SHM), machine.shm, machine.shm_free, more)
    yield from _store(config, plan, machine)


def _room(name: str, most: float, there: float, free: float, else_: str) -> Line:
    said = f"{most / GB:.2f} GB wanted, free {free / GB:.1f} of {there / GB:.1f} GB"
    if most > free:
        return bad(name, f"{said}: {else_}")
    return look(name, f"{said}: little is left") if most > 0.9 * free else good(name, said)


def _store(config: Config, plan: MemoryPlan, machine: Machine) -> Iterator[Line]:
    """Whether Ray's store holds what goes through it. That of a cluster was sized when the cluster was started."""
    wanted, made_for = plan.most(SHM, plans.STORE), plans.store_wanted(config, Layout.of(config, machine.torch_cards))
    if config.trainer.ray_address is not None:
        size = f"ray start --object-store-memory={store_for(made_for):.0f}"
        yield good("Ray's store", f"{wanted / GB:.2f} GB wanted: {size}")
        return
    has = own_store_bytes(made_for)
    said = f"{wanted / GB:.2f} GB wanted in an update, {has / GB:.2f} GB will be set aside"
    if has < wanted:
        yield look("Ray's store", f"{said}: the rest goes to files, which is slow; more /dev/shm helps")
    else:
        yield good("Ray's store", said)


def _shm(plan: MemoryPlan) -> str:
    each = (f"{plan.most(SHM, who) / GB:.2f} GB {who}" for who in plan.kinds(SHM))
    return ", ".join(each)


def _smaller(plan: MemoryPlan) -> str:
    """What to change first, by what takes the most in the fullest phase."""
    phase = plan.fullest(CARD)
    largest = max(plan.at(CARD), key=lambda part: part.of(phase))
    actor = "actor_rollout_ref.actor."
    changes = {
        "activations": f"{actor}ppo_micro_batch_size smaller, model.enable_gradient_checkpointing=true",
        "weights": f"{actor}fsdp_config.param_offload=true, more cards, or model.lora_rank=32",
        "gradients": f"{actor}fsdp_config.param_offload=true, or model.lora_rank=32",
        "optimizer": f"{actor}fsdp_config.optimizer_offload=true",
    }
    kind = next((text for word, text in changes.items() if largest.what.startswith(word)), "fewer on the card")
    return f"most is {largest.who}'s {largest.what} ({largest.of(phase) / GB:.1f} GB): {kind}"


def _less_memory(plan: MemoryPlan) -> str:
    phase = plan.fullest(HOST)
    largest = max(plan.at(HOST), key=lambda part: part.of(phase))
    return f"most in {phase} is {largest.what} of {largest.who} ({largest.of(phase) / GB:.1f} GB)"
