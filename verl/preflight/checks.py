"""What is looked at without loading anything. The checks of a run's start are :mod:`verl.trainer.preflight`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from verl.config import Config
from verl.envs.factory import check as check_environment
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
    return [
        Check("policy", lambda: [_policy(config)]),
        Check("environment", lambda: [_environment(config)]),
        Check("critic", lambda: _critic(config)),
        Check("devices", lambda: device_lines(config, machine())),
        Check("memory", lambda: _memory(config, machine())),
    ]


def _policy(config: Config) -> Line:
    """Its parts, and that the files hold the tensors that its config.json asks for."""
    start.check_policy(config)
    from verl.models.openvla_oft.read_weights import compare
    from verl.models.registry import POLICIES

    folder = Path(config.model.path).expanduser()
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


def _environment(config: Config) -> Line:
    check_environment(config.env)
    return good("environment", f"{config.env.get('name')}: its keys and what they name are there")


def _critic(config: Config) -> Iterator[Line]:
    critic = config.critic
    if not critic.asked:
        yield good("critic", "is not asked (critic.enable=false)")
    elif not critic.sidecar.start:
        yield look("critic", f"is somebody else's (critic.sidecar.start=false): run id {critic.run_id}")
    else:
        start.check_sidecar(critic, config.trainer.n_gpus_per_node)
        python = sidecar_python(critic.sidecar.python)
        yield good("critic", f"its keys, packages and checkpoint are there, says {python}")
    if (found := capacity.of_config(config)) is not None:
        yield (look if found.waiting else good)("critic's capacity", found.line().removeprefix("critic: "))


def _memory(config: Config, machine: Machine) -> Iterable[Line]:
    plan, _ = reckon(config, len(machine.cards))
    return machine_lines(config, plan, machine)


def device_lines(config: Config, machine: Machine) -> Iterator[Line]:
    """Cards, driver and this Python's torch, beside what the configuration asks for."""
    asked, there = config.trainer.n_gpus_per_node, len(machine.cards)
    torch = f"torch {machine.torch}, " + (f"CUDA {machine.torch_cuda}" if machine.torch_cuda else "built for the CPU")
    if machine.problem is not None:
        yield bad("devices", machine.problem)
    elif there and machine.torch_cuda is None:
        yield bad("devices", f"{there} GPU(s), but {torch}: install the CUDA build of torch in this environment")
    elif there and not machine.torch_cards:
        hidden = machine.environment.get("CUDA_VISIBLE_DEVICES")
        why = f"CUDA_VISIBLE_DEVICES={hidden!r}" if hidden is not None else "is the driver older than that CUDA?"
        yield bad("devices", f"{there} GPU(s), driver {machine.driver}, and {torch} sees none: {why}")
    elif (asked or 0) > machine.torch_cards:
        yield bad("devices", f"trainer.n_gpus_per_node={asked}, but {machine.torch_cards} GPU(s) are seen; {torch}")
    elif there:
        names = ", ".join(sorted({card.name for card in machine.cards}))
        yield good("devices", f"{machine.torch_cards} of {there} GPU(s) ({names}), driver {machine.driver}; {torch}")
    else:
        yield good("devices", f"no GPU; {torch}")
    environments = config.rollout.workers * config.rollout.envs_per_worker
    said = f"{machine.cores} for {environments} environment(s)"
    yield good("cores", said) if machine.cores >= environments else look("cores", f"{said}: they take turns")


def egl_line(renderer: str, machine: Machine) -> Line:
    """``renderer``: what OpenGL calls itself. Drawing by the processor beside a GPU is a container's wrong setting."""
    software = any(word in renderer.lower() for word in ("llvmpipe", "softpipe", "swrast"))
    if software and machine.cards:
        setting = "NVIDIA_DRIVER_CAPABILITIES=all (or graphics,compute,utility)"
        return look("renderer", f"{renderer}: the processor draws, though there is a GPU; a container needs {setting}")
    return good("renderer", renderer)
