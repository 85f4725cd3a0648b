"""How long loading may take follows the size of the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from verl.trainer.assemble import critic_asked, learner_options
from verl.trainer.load_config import load_config
from verl.trainer.load_limits import LEAST_S, LoadLimit


def test_seven_billion_parameters_have_more_time_than_a_small_policy(tmp_path: Path) -> None:
    """Weights count, in any of the published formats; other files do not."""
    (tmp_path / "proprio_projector--5_checkpoint.pt").write_bytes(bytes(100))
    (tmp_path / "tokenizer.json").write_bytes(bytes(1000))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(15 * 10**9)  # a sparse file: takes no room
    large = LoadLimit.of(tmp_path)
    assert large.size == 15 * 10**9 + 100
    assert large.seconds == LEAST_S + large.size / 25e6
    assert str(large) == f"it loads 15.0 GB from {tmp_path}"
    assert LoadLimit.of(tmp_path / "not-here").seconds == LEAST_S


def weights(folder: Path, size: int) -> Path:
    """Sparse: takes no room."""
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return folder


def test_an_adapter_is_waited_for_as_long_as_its_base_takes(tmp_path: Path) -> None:
    base, folder = weights(tmp_path / "base", 15 * 10**9), tmp_path / "sft"
    (folder / "lora_adapter").mkdir(parents=True)
    (folder / "lora_adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert LoadLimit.of(folder).size == 15 * 10**9


def test_the_sidecar_and_who_asks_it_have_the_time_that_the_critic_takes(tmp_path: Path) -> None:
    """Its start, its way back, and a restart while questions are open; a model that is served elsewhere takes none."""
    model = f"critic.sidecar.config.model={weights(tmp_path / 'vlac', 5 * 10**9)}"
    config, _ = load_config([model])
    limit = LoadLimit.of_critic(config.critic)
    assert limit.seconds == config.critic.ready_timeout_s + 200 and "5.0 GB" in str(limit)
    asked = critic_asked(config, "a-run")
    assert asked is not None and asked.verdict_timeout_s == config.critic.verdict_timeout_s + 200
    for elsewhere in ("critic.sidecar.start=false", "critic.sidecar.config.engine=openai"):
        config, _ = load_config([model, elsewhere])
        assert LoadLimit.of_critic(config.critic).seconds == config.critic.ready_timeout_s


def test_ranks_wait_for_one_that_still_loads_longer_than_the_driver_does(tmp_path: Path) -> None:
    """The driver's line names the rank; NCCL's own time-out would abort the process without a word of it."""
    config, _ = load_config([f"actor_rollout_ref.model.path={weights(tmp_path / 'policy', 60 * 10**9)}"])
    patience = learner_options(config).collective_timeout_s
    assert patience > LEAST_S + 2400 > config.trainer.stall_timeout_s
    config, _ = load_config(["trainer.stall_timeout_s=7200"])
    assert learner_options(config).collective_timeout_s > 7200
