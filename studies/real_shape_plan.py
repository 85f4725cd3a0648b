"""What the memory plan says of the real shape's processes, beside what :mod:`studies.real_shape` measured of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from studies.real_shape_stages import CHUNK, SUITE
from verl.trainer.load_config import load_config
from verl.trainer.memory_plan import HOST, MemoryPlan, memory_plan
from verl.trainer.memory_shapes import critic_shape, policy_shape

WHERE = {  # who, its phase, the stages; of the sidecar its service alone is watched
    "real shape: policy worker, load": ("rollout", "load", ("policy: load",)),
    "real shape: policy worker, chunk": ("rollout", "rollout", ("policy: chunk",)),
    "real shape: sidecar, load": ("sidecar", "load", ("critic: load",)),
    "real shape: sidecar, verdicts": ("sidecar", "rollout", ("critic: done", "critic: critic", "critic: 8 dones")),
}
NOT_WATCHED = ("supervisor", "host's actor")


def against_plan(folder: Path, stages: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """where -> planned_gb, measured_gb: of the process, with the weights that it leaves mapped from their file."""
    plan = plan_of(folder)
    found = {}
    for where, (who, phase, measured) in WHERE.items():
        if not all(stage in stages for stage in measured):
            continue
        planned = sum(part.of(phase) for part in plan.at(HOST, who) if part.what not in NOT_WATCHED)
        most = max(stages[stage]["peak_gb"] for stage in measured)
        mapped = mapped_gb(folder / "critic") if who == "sidecar" else 0.0
        found[where] = {"planned_gb": round(planned / 1e9, 3), "measured_gb": round(most + mapped, 3)}
    return found


def plan_of(folder: Path) -> MemoryPlan:
    """Of a run that plays one episode of one chunk with the two checkpoints in ``folder``."""
    policy, critic = folder / "policy", folder / "critic"
    config, _ = load_config(
        [
            *("env=libero", "hardware=laptop", f"data.task_suite_name={SUITE}", f"env.max_steps={CHUNK}"),
            *(f"actor_rollout_ref.model.path={policy}", "actor_rollout_ref.rollout.dtype=bfloat16"),
            *("actor_rollout_ref.rollout.envs_per_worker=1", "data.train_batch_size=1", "data.n_samples=1"),
            *(f"critic.sidecar.config.model={critic}", "critic.sidecar.config.dtype=bfloat16"),
            f"critic.sidecar.config.batch.max_size={CHUNK}",
        ]
    )
    return memory_plan(config, policy_shape(policy), critic_shape(critic))


def mapped_gb(critic: Path) -> float:
    """Embeddings and output layer, which a critic on a CPU in the dtype of its file never copies out of the file."""
    text = json.loads((critic / "config.json").read_text())["text_config"]
    return 2 * 2 * float(text["vocab_size"]) * float(text["hidden_size"]) / 1e9
