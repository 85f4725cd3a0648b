"""The OpenVLA-OFT policy: frames, an instruction and proprioception to a chunk of actions and their probabilities.

    images -> ImageProcessor -> VisionBackbone -> Projector -+
    proprio -> norm_stats -> ProprioProjector ---------------+-> ParallelDecoder -> logits of 256 tokens, A times
    instruction -> Prompts ----------------------------------+        |
                                                                      +-> ValueHead (PPO)

Parameters have the names of the published checkpoints: ``vision_backbone.featurizer...``,
``vision_backbone.fused_featurizer...``, ``projector...``, ``language_model.model...``, ``proprio_projector...``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from verl.models.openvla_oft import checkpoint, export, lora, norm_stats
from verl.models.openvla_oft.action_tokens import ActionTokens
from verl.models.openvla_oft.config import PolicyConfig
from verl.models.openvla_oft.decoder import ParallelDecoder, make_decoder
from verl.models.openvla_oft.errors import ConfigError, InputError
from verl.models.openvla_oft.images import ImageProcessor
from verl.models.openvla_oft.outputs import Evaluation, PolicyOutput
from verl.models.openvla_oft.prompts import Prompts, tokenizer_folder
from verl.models.openvla_oft.read_weights import read_weights
from verl.models.openvla_oft.value_head import ValueHead
from verl.models.openvla_oft.vision import Projector, ProprioProjector, VisionBackbone


class OpenVLAOFTPolicy(nn.Module):
    """See the module. Make one with :meth:`from_pretrained`."""

    def __init__(
        self,
        config: PolicyConfig,
        processor: ImageProcessor,
        prompts: Prompts,
        unnorm_key: str | None = None,
        value_head: bool = False,
        attention: str = "sdpa",
    ) -> None:
        super().__init__()
        self.config, self.processor, self.prompts = config, processor, prompts
        self.unnorm_key = norm_stats.choose(config.norm_stats, unnorm_key)
        stats, kind = config.norm_stats[self.unnorm_key], config.action_proprio_normalization_type
        self.action_bounds = norm_stats.Bounds(stats.get("action", {}), kind, f"{self.unnorm_key}.action")
        self.proprio_bounds = None
        if len(self.action_bounds) != config.action_dim:
            raise ConfigError(
                f"action_dim: {config.action_dim}, but norm_stats of {self.unnorm_key} have {len(self.action_bounds)}"
            )
        llama = config.llama()
        self.action_tokens = ActionTokens(config.action_vocab_size, config.n_action_bins)
        self.vision_backbone = VisionBackbone(config.vision)
        self.projector = Projector(config.vision.fused, self.vision_backbone.embed_dim, llama.hidden_size)
        self.language_model = make_decoder(llama, attention)
        self.proprio_projector: ProprioProjector | None = None
        if config.use_proprio:
            self.proprio_bounds = norm_stats.Bounds(stats.get("proprio", {}), kind, f"{self.unnorm_key}.proprio")
            self.proprio_projector = ProprioProjector(config.proprio_dim, llama.hidden_size)
        self.value_head = ValueHead(llama.hidden_size) if value_head else None
        self.source: Path | None = None  # the folder that it was loaded from

    # ---- making and keeping

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        unnorm_key: str | None = None,
        value_head: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        attention: str = "sdpa",
        **overrides: Any,
    ) -> OpenVLAOFTPolicy:
        """Loads a checkpoint of the published layout from a local folder, a tensor at a time.

        Args:
            path: the folder.
            unnorm_key: dataset in ``norm_stats``; may be left out where there is only one.
            value_head: add PPO's value head; read from the checkpoint where it has one, else new.
            dtype: of all parameters. Learners want float32, rollouts on a GPU bfloat16.
            device: where the parameters are to be; beside them one tensor is in main memory.
            attention: of the decoder: ``sdpa``, ``eager`` or ``flash_attention_2``.
            overrides: keys of ``config.json`` to replace, e.g. ``num_images_in_input=2``, ``center_crop=True``.

        Raises:
            CheckpointError, ConfigError, NormStatsError: in one line, what is missing or not allowed.
        """
        policy = cls.without_weights(
            path, unnorm_key=unnorm_key, value_head=value_head, attention=attention, **overrides
        )
        policy.to(dtype).to_empty(device=device)
        policy.read_weights(path)
        return policy.eval()

    @classmethod
    def without_weights(
        cls,
        path: str | Path,
        *,
        unnorm_key: str | None = None,
        value_head: bool = False,
        attention: str = "sdpa",
        **overrides: Any,
    ) -> OpenVLAOFTPolicy:
        """As :meth:`from_pretrained`, with parameters on the meta device: adapters may be added, FSDP may shard it.
        Then ``to_empty(device=...)`` and :meth:`read_weights`."""
        folder = Path(path)
        parts = checkpoint.usable_parts(folder)
        config = PolicyConfig.load(parts.config.parent, **overrides)
        stats = norm_stats.load(folder, config.norm_stats)
        config = PolicyConfig.from_dict({**config.published, "norm_stats": stats})
        processor = ImageProcessor.load(
            parts.file("preprocessor_config.json").parent,
            config.vision.image_sizes[0],
            len(config.vision.model_ids),
            config.center_crop,
            config.frame_convention == "rlds",
        )
        prompts = Prompts(tokenizer_folder(parts), config.llama().vocab_size)
        with torch.device("meta"):
            policy = cls(config, processor, prompts, unnorm_key, value_head, attention)
        policy.source = folder
        return policy

    def read_weights(self, path: str | Path) -> None:
        """See :func:`verl.models.openvla_oft.read_weights.read_weights`."""
        read_weights(self, Path(path))
        self.make_buffers()

    def make_buffers(self) -> None:
        """Values for the buffers that no checkpoint holds: after ``to_empty`` the rotation would be garbage."""
        self.language_model.model.rotary_emb = LlamaRotaryEmbedding(self.language_model.config).to(self.device)

    def save_pretrained(self, path: str | Path, proprio_file: bool = False) -> None:
        """Writes the published layout; adapters come merged. ``proprio_file``: as OpenVLA-OFT keeps the projector.
        Code and processor files come from the folder that the policy was loaded from."""
        export.save(
            self.config,
            self.processor,
            self.prompts.tokenizer,
            self.state_dict(),
            Path(path),
            proprio_file,
            self.source,
        )

    @staticmethod
    def save_state(
        source: str | Path, state: dict[str, torch.Tensor], path: str | Path, inputs: Mapping[str, Any] | None = None
    ) -> None:
        """Writes ``state`` (with or without adapters) with the other files of the checkpoint ``source``; ``inputs``:
        :attr:`PolicyConfig.inputs` of the policy, where it was loaded with other ones than ``source`` says."""
        export.save_beside(Path(source), state, Path(path), inputs or {})

    # ---- for the learner

    def add_lora(self, rank: int, alpha: int, dropout: float = 0.0) -> None:
        """Adapters on every linear layer but ``lm_head``; everything else but the small heads is frozen."""
        lora.add_lora(self, rank, alpha, dropout)

    def gradient_checkpointing_enable(self) -> None:
        """Recomputes blocks in the backward pass instead of keeping their activations."""
        self.vision_backbone.checkpointing = True
        self.language_model.gradient_checkpointing_enable({"use_reentrant": False})

    def shard_blocks(self) -> list[nn.Module]:
        """The transformer blocks that take part, in the order of the forward pass: what FSDP shards one by one."""
        return [*self.vision_backbone.used_blocks(), *self.language_model.model.layers]

    # ---- for rollouts

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        device: torch.device = self.language_model.model.embed_tokens.weight.device
        return device

    @torch.no_grad()
    def predict(
        self,
        images: np.ndarray | torch.Tensor,
        instructions: Sequence[str],
        proprio: np.ndarray | torch.Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        uniforms: np.ndarray | None = None,
    ) -> PolicyOutput:
        """Samples a chunk for each observation; ``temperature`` 0 takes the most probable tokens.

        Args:
            images: (B, cameras, H, W, 3) uint8.
            instructions: B texts.
            proprio: (B, proprio_dim) raw; needed where the checkpoint uses it.
            temperature: divides the logits of the 256 action tokens. At 0 the log-probabilities are those at 1.
            generator: for the samples, on the policy's device.
            uniforms: (B, chunk * action_dim) float32 in [0, 1): sample by inverting the distribution at these instead,
                so that an observation's sample does not depend on who shares its batch.
        """
        if temperature < 0:
            raise InputError(f"temperature: {temperature}, but it must be at least 0")
        logits, values = self(images, instructions, proprio)
        scaled = torch.log_softmax(logits / (temperature or 1.0), dim=-1)
        if temperature == 0:
            picked = scaled.argmax(-1)
        elif uniforms is not None:
            points = torch.as_tensor(uniforms, device=scaled.device)[..., None]
            below = (scaled.exp().cumsum(-1) <= points).sum(-1)
            picked = below.clamp(max=scaled.shape[-1] - 1)  # rounding can leave the last sum under 1
        else:
            flat = scaled.exp().flatten(0, 1)
            picked = torch.multinomial(flat, 1, generator=generator).view(scaled.shape[:2])
        log_probs = scaled.gather(-1, picked[..., None])[..., 0].cpu()
        tokens = (picked + self.action_tokens.first).cpu()
        return PolicyOutput(
            self.to_actions(tokens.numpy()), tokens, log_probs, None if values is None else values.cpu()
        )

    def evaluate(
        self,
        images: np.ndarray | torch.Tensor,
        instructions: Sequence[str],
        proprio: np.ndarray | torch.Tensor | None,
        tokens: torch.Tensor,
        temperature: float = 1.0,
    ) -> Evaluation:
        """Log-probabilities and entropy of given ``tokens`` (B, A) under the current weights, with gradients."""
        logits, values = self(images, instructions, proprio)
        scaled = torch.log_softmax(logits / temperature, dim=-1)
        index = self.action_tokens.index(torch.as_tensor(tokens).to(scaled.device))
        if index.shape != scaled.shape[:2] or index.min() < 0 or index.max() >= self.action_tokens.bins:
            raise InputError(f"tokens: {tuple(index.shape)}, expected {tuple(scaled.shape[:2])} ids of action tokens")
        log_probs = scaled.gather(-1, index[..., None])[..., 0]
        entropy = -(scaled.exp() * scaled).sum(-1)
        return Evaluation(log_probs, entropy, values)

    def to_actions(self, tokens: np.ndarray) -> np.ndarray:
        """(B, A) token ids to (B, chunk, action_dim) float32 actions in the robot's units."""
        shape = (len(tokens), self.config.num_actions_chunk, self.config.action_dim)
        actions = self.action_bounds.denormalise(self.action_tokens.decode(tokens).reshape(shape))
        if (
            self.config.gripper_convention == "rlds"
        ):  # 0 close .. 1 open, as OpenVLA's data has it, to -1 open / +1 close
            actions[..., -1] = -np.sign(2 * actions[..., -1] - 1)
        return actions.astype(np.float32)

    def forward(
        self,
        images: np.ndarray | torch.Tensor,
        instructions: Sequence[str],
        proprio: np.ndarray | torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Observations to ((B, A, 256) float32 logits of the action tokens, (B,) values or None)."""
        pixels, prompts, lengths, state = self.prepare(images, instructions, proprio)
        hidden = self.hidden(self.patches(pixels), prompts, lengths, state)
        return self.action_logits(hidden), None if self.value_head is None else self.value_head(hidden)

    # ---- the forward pass in parts

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, cameras * 6, size, size) to (B, cameras * patches, D) embeddings."""
        patches: torch.Tensor = self.projector(self.vision_backbone(pixels))
        return patches

    def hidden(
        self, patches: torch.Tensor, prompts: torch.Tensor, lengths: torch.Tensor, proprio: torch.Tensor | None
    ) -> torch.Tensor:
        """Patches, prompt ids and normalised proprio to (B, A, D) hidden states of the action tokens."""
        if self.proprio_projector is not None and proprio is not None:
            state = self.proprio_projector(proprio.to(self.proprio_projector.fc1.weight.dtype))
            patches = torch.cat([patches, state[:, None].to(patches.dtype)], dim=1)
        return ParallelDecoder(self.language_model, self.config.action_tokens).hidden(patches, prompts, lengths)

    def action_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, A, D) hidden states to (B, A, 256) float32 logits of the action tokens."""
        decoder = ParallelDecoder(self.language_model, self.config.action_tokens)
        return decoder.logits(hidden, self.action_tokens.first, self.action_tokens.bins)

    def prepare(
        self,
        images: np.ndarray | torch.Tensor,
        instructions: Sequence[str],
        proprio: np.ndarray | torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Checked inputs on the policy's device: pixels, prompt ids, prompt lengths, normalised proprio or None."""
        device = self.device
        frames = torch.as_tensor(np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images).to(device)
        if frames.ndim == 5 and frames.shape[1] != self.config.num_images_in_input:
            raise InputError(
                f"images: {frames.shape[1]} cameras, but num_images_in_input is {self.config.num_images_in_input}"
            )
        if len(instructions) != len(frames):
            raise InputError(f"instructions: {len(instructions)} for {len(frames)} observations")
        return self.processor(frames), *self.prepare_words(instructions, proprio)

    def prepare_words(
        self, instructions: Sequence[str], proprio: np.ndarray | torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The same without the pixels, for patches that are there already."""
        device, count = self.device, len(instructions)
        prompts, lengths = self.prompts(tuple(instructions))
        state = None
        if self.proprio_bounds is not None:
            if proprio is None or tuple(proprio.shape) != (count, self.config.proprio_dim):
                given = None if proprio is None else tuple(proprio.shape)
                raise InputError(f"proprio: {given}, but ({count}, {self.config.proprio_dim}) is expected")
            raw = proprio.cpu().numpy() if isinstance(proprio, torch.Tensor) else np.asarray(proprio)
            state = torch.from_numpy(self.proprio_bounds.normalise(raw)).float().to(device)
        return prompts.to(device), lengths.to(device), state
