"""What is looked at without loading anything. The checks of a run's start are :mod:`verl.trainer.preflight`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from evo_vlac.paths import from_home
from verl.config import Config
from verl.errors import VerlError
from verl.models.openvla_oft.errors import PolicyError
from verl.preflight.line import Line, bad, good, look
from verl.preflight.machine import Machine, this_machine
from verl.preflight.memory import machine_lines, reckon
from verl.trainer import capacity
from verl.trainer import preflight as start
from verl.workers.sidecar_host import sidecar_python


@dataclass(frozen=True, slots=True)
class Check:
    """``lines``: looks, and says what it has found; an error of ours in it is a bad line."""

    name: str
    lines: Callable[[], Iterable[Line]]

    def run(self) -> list[Line]:
        try:
            return list(self.lines())
        except (VerlError, PolicyError, OSError) as error:
            return [bad(self.name, " ".join(str(error).split()))]


def quick_checks(config: Config) -> list[Check]:
    """In the order in which they are told."""
    machine = cache(this_machine)
    more: dict[str, Callable[[], Iterable[Line]]] = {
        "policy": lambda: [_policy(config)],
        "environment": lambda: [
            good("environment", f"{config.env.get('name')}: its keys and what they name are there")
        ],
        "critic": lambda: _critic(config),
        "devices": lambda: device_lines(config, machine()),
    }

    def of_a_start(name: str, check: Callable[[Config], object]) -> Iterator[Line]:
        check(config)
        yield from more[name]() if name in more else [good(name, "nothing that a run would refuse")]

    return [
        *(Check(name, partial(of_a_start, name, check)) for name, check in start.CHECKS),
        Check("cores", lambda: [core_line(config, machine())]),
        Check("memory", lambda: _memory(config, machine())),
    ]


def _policy(config: Config) -> Line:
    """Its parts, and that the files hold the tensors that its config.json asks for."""
    from verl.models.openvla_oft.read_weights import compare
    from verl.models.registry import POLICIES

    folder = from_home(config.model.path)
    policy = POLICIES[config.model.vla].without_weights(
        folder,
        unnorm_key=config.rollout.unnorm_key,
        value_head=config.algorithm.adv_estimator == "gae",
        center_crop=config.rollout.center_crop,
        num_images_in_input=config.actor.num_images_in_input,
        use_proprio=config.rollout.use_proprio,
    )
    wanted = policy.state_dict()
    compare(wanted, folder)
    count = sum(tensor.numel() for tensor in wanted.values())
    return good("policy", f"{folder}: {len(wanted)} tensors, {count / 1e6:,.1f} M numbers, statistics of its tasks")


def _critic(config: Config) -> Iterator[Line]:
    critic = config.critic
    if not critic.asked:
        yield good("critic", "is not asked (critic.enable=false)")
    elif not critic.sidecar.start:
        yield look("critic", f"is somebody else's (critic.sidecar.start=false): run id {critic.run_id}")
    else:
        python = sidecar_python(critic.sidecar.python)
        yield good("critic", f"its keys, packages and checkpoint are there, says {python}")
    if (found := capacity.of_config(config)) is not None:
        yield (look if found.waiting else good)("critic's capacity", found.line().removeprefix("critic: "))


def _memory(config: Config, machine: Machine) -> Iterable[Line]:
    plan, _ = reckon(config, machine.torch_cards)
    return machine_lines(config, plan, machine)


def device_lines(config: Config, machine: Machine) -> Iterator[Line]:
    """Cards, driver and this Python's torch; bad where torch sees fewer than are asked of this machine. What a run's
    start refuses is told before it."""
    asked, seen, there = config.trainer.n_gpus_per_node or 0, machine.torch_cards, len(machine.cards)
    told = bad if asked > seen and config.trainer.ray_address is None else look
    torch = f"torch {machine.torch}, " + (f"CUDA {machine.torch_cuda}" if machine.torch_cuda else "built for the CPU")
    if machine.problem is not None:
        yield told("devices", f"{seen} GPU(s) are seen by {torch}; {machine.problem}")
    elif there and machine.torch_cuda is None:
        yield told("devices", f"{there} GPU(s), but {torch}: install the CUDA build of torch in this environment")
    elif there and not seen:
        why = "is the driver older than that CUDA?" if machine.visible is None else _visible(machine).lstrip(", ")
        yield told("devices", f"{there} GPU(s), driver {machine.driver}, and {torch} sees none: {why}")
    elif asked > seen:
        yield told(
            "devices", f"trainer.n_gpus_per_node={asked}, but {seen} GPU(s) are seen{_visible(machine)}; {torch}"
        )
    elif seen:
        names = ", ".join(sorted({card.name for card in machine.cards})) or "nvidia-smi does not show them"
        yield good("devices", f"{seen} GPU(s) ({names}), driver {machine.driver}; {torch}")
    else:
        yield good("devices", f"no GPU{_visible(machine)}; {torch}")


def _visible(machine: Machine) -> str:
    return "" if machine.visible is None else f", CUDA_VISIBLE_DEVICES={machine.visible!r}"


def core_line(config: Config, machine: Machine) -> Line:
    """Cores beside the environments of a node."""
    environments = config.rollout.workers * config.rollout.envs_per_worker
    said = f"{machine.cores} for {environments} environment(s)"
    return good("cores", said) if machine.cores >= environments else look("cores", f"{said}: they take turns")
