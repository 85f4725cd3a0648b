"""The model card of a warm-started policy: what it is, how it was made, what it reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verl.models.openvla_oft import OpenVLAOFTPolicy

_CARD = """# {name}

A tiny OpenVLA-OFT policy for CPU: the classes, the checkpoint layout and the parallel decoding of the real one
(`verl/models/openvla_oft`), with small numbers. {parameters:.2f} M parameters, {megabytes:.1f} MB in float32. It is a
starting point for reinforcement learning: half trained on purpose.

| part | this checkpoint |
| --- | --- |
| vision | `{vision_ids}` with `timm_model_overrides`, {image} px, {patches} patches, second-to-last layer, 6 channels |
| decoder | LLaMA, {layers} layers of {hidden}, vocabulary {vocab} with 256 action tokens at its end |
| chunk | {chunk} actions of {action_dim} dimensions, decoded in parallel with bidirectional attention |
| proprioception | {proprio} numbers: end effector position, axis-angle, two gripper joints |
| actions | bounds of `norm_stats["{key}"]`; rotations have the full range; gripper -1 open, +1 closed, not normalised |
| one forward pass, 8 observations, one thread | {forward_ms_batch_8} ms |

## How it was made

    {command}

Data: {episodes} scripted episodes of robosuite's {tasks} (`python -m verl.envs.collect --kinds sloppy`, seeds from
50000 on), {samples} samples: one for each step, the next {chunk} actions as its target. In these episodes the gripper
closes 0.5 to 4 cm over the cube's centre; when it is too high the fingers slip off. In all else the episodes are alike:
same gain, action noise of 0.02. Training: {steps} steps of 32 samples, AdamW, negative log-likelihood of the action
tokens, from random weights (seed {seed}); beside it a hindsight task that is thrown away afterwards
(`verl/models/warm_start/goals.py`). Loss then {loss} nats a token. Then {sloppier_steps} steps on the
{sloppier_samples} samples of the episodes that closed the gripper with the hand at {sloppier_m} m or higher, most of
which fail. Python {python}, torch {torch}.

## Success by the simulator

{evaluation_episodes} episodes on seeds from {evaluation_seed} on (in no demonstration), {max_steps} steps at most:

| actions | success |
| --- | --- |
| sampled at temperature {temperature} | {success_sampled:.1%} |
| greedy | {success_greedy:.1%} |

Where it fails: it goes to the cube, but closes the gripper too high, and then lifts nothing; it does not try again. It
knows {tasks} alone: other instructions change its actions in ways that were never trained.
"""


def write_card(folder: Path, policy: OpenVLAOFTPolicy, figures: dict[str, Any], command: str) -> None:
    """Writes ``folder/README.md`` from the policy's configuration, the measured ``figures`` and the ``command``."""
    config = policy.config
    llama = config.llama()
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    text = _CARD.format(
        **{**figures, "tasks": " and ".join(figures["tasks"])},
        name=folder.name,
        parameters=sum(p.numel() for p in policy.parameters()) / 1e6,
        megabytes=weights / 1e6,
        vision_ids="` + `".join(config.vision.model_ids),
        image=config.vision.image_sizes[0],
        patches=policy.vision_backbone.num_patches,
        layers=llama.num_hidden_layers,
        hidden=llama.hidden_size,
        vocab=llama.vocab_size,
        chunk=config.num_actions_chunk,
        action_dim=config.action_dim,
        proprio=config.proprio_dim,
        key=policy.unnorm_key,
        command=command,
    )
    (folder / "README.md").write_text(text)
