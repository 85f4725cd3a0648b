"""What each process of a run holds, in bytes, by formulas over the shapes of its models. Pure functions.

b: bytes of a number in the dtype that is computed in; h, m: width and MLP of the decoder, or w, m of a tower. The
optimizer is AdamW with two numbers in float32 for each that is trained; gradients and what is trained are in float32,
sharded over the ranks (:mod:`verl.workers.sharded_policy`).
"""

from __future__ import annotations

import math

from evo_vlac.model_shape import ModelShape
from verl.trainer.memory_shapes import PolicyShape

FLOAT32 = 4
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
PROMPT_TOKENS = 48  # of an instruction in its template; LIBERO's longest has about so many
CACHES_MIB = {"feature": 512.0, "prefix": 1024.0}  # of the direct engine: sidecar.config.MemoryConfig's defaults
GATHERED = 2  # blocks that FSDP holds whole at once: the one that is computed, and the next
CARD_PASS = 256 * 2**20  # the critic's widest activation in one pass on a card (evo_vlac.model.loading)
CARD_KEPT = 2 << 30  # ... and the keys and values that it holds for answers of several tokens
CPU_PASS = 8 * 2**20  # the widest activation on a CPU


def positions(shape: PolicyShape) -> int:
    """Of one observation in the decoder: the patches of all images, a prompt, the action tokens, the stop token."""
    return shape.images * shape.patches + PROMPT_TOKENS + shape.action_tokens + 1


def learner_weights(shape: PolicyShape, ranks: int, lora_rank: int, width: int) -> float:
    """A rank's shard: all in float32, or with adapters what is frozen in ``width`` bytes, and the adapters in float32.

    4 N / ranks, or (width N + 4 rank (in + out of the adapted layers)) / ranks
    """
    if lora_rank:
        return (width * shape.parameters + FLOAT32 * lora_rank * shape.adapter_width) / ranks
    return FLOAT32 * shape.parameters / ranks


def trained(shape: PolicyShape, lora_rank: int) -> int:
    """Numbers that the optimizer moves."""
    return lora_rank * shape.adapter_width if lora_rank else shape.trained


def gathered(shape: PolicyShape, lora_rank: int, width: int) -> float:
    """What FSDP puts together beside the shards: two blocks and the root's tensors whole, and where all is trained
    their gradients, once as they are computed and once in float32, as they are summed over the ranks.

    b (2 block + root) + (b + 4) (block + root)
    """
    block = max(shape.blocks)
    whole = width * (GATHERED * block + shape.root)
    return whole if lora_rank else whole + (width + FLOAT32) * (block + shape.root)


def optimizer_step(shape: PolicyShape, ranks: int, lora_rank: int) -> float:
    """AdamW's own working memory: two copies of the largest tensor that it moves, which it goes through one by one."""
    largest = shape.largest_tensor if not lora_rank else max(1, trained(shape, lora_rank) // max(1, len(shape.blocks)))
    return 2 * FLOAT32 * largest / ranks


def decoder_block(shape: PolicyShape, width: int) -> int:
    """Bytes that autograd keeps of one position in one LLaMA block.

    Two norms: input in float32 (4h each), normalised and scaled (2bh each); queries, keys, values, attention's output
    and its copy (5bh); gate, its SiLU, up, and their product (4bm): 8h + 9bh + 4bm
    """
    return 8 * shape.hidden + width * (9 * shape.hidden + 4 * shape.mlp)


def activations(shape: PolicyShape, rows: int, width: int, checkpointing: bool) -> float:
    """Of a micro-batch of ``rows`` chunks, forward and backward.

    With checkpointing: the input of every block (b h a position), and what autograd keeps of the one block that is
    computed again; without: what it keeps of all. On top the projector, the pixels in float32, the distributions of
    the action tokens, and while the gradient goes back through a block its own: 4bh + 3bm a position.
    """
    places, h, m = positions(shape), shape.hidden, shape.mlp
    blocks = [(places * width * h, places * decoder_block(shape, width), shape.layers)]
    for tower in shape.towers:
        seen, w = shape.images * tower.tokens, tower.width
        # two norms with their inputs (4bw), queries, keys and values (3bw), attention's output and its copy, and what
        # the two scales multiply (4bw), the MLP before and after its GELU (2bm)
        blocks.append((seen * width * w, seen * width * (11 * w + 2 * tower.mlp), tower.blocks))
    if checkpointing:
        kept = sum(entry * count for entry, _, count in blocks) + max(inside for _, inside, _ in blocks)
    else:
        kept = sum(inside * count for _, inside, count in blocks)
    projector = shape.images * shape.patches * width * (9 * shape.vision_width + 3 * h)
    pixels = shape.images * 3 * len(shape.towers) * shape.image_size**2 * (FLOAT32 + width)
    distributions = 6 * FLOAT32 * shape.action_tokens * shape.bins
    back = places * width * (4 * h + 3 * m)
    return float(rows * (kept + projector + pixels + distributions + back))


def forward_pass(shape: PolicyShape, rows: int, width: int) -> float:
    """Of a rollout's pass over ``rows`` observations, without gradients: one block at a time.

    The residual stream, a norm in float32, queries, keys, values (4bh + 8h), gate, up and product (3bm) a position.
    """
    block = positions(shape) * (8 * shape.hidden + width * (4 * shape.hidden + 3 * shape.mlp))
    tower = max(shape.images * one.tokens * width * (7 * one.width + 2 * one.mlp) for one in shape.towers)
    features = shape.images * shape.patches * width * (9 * shape.vision_width + 2 * shape.hidden)
    pixels = shape.images * 3 * len(shape.towers) * shape.image_size**2 * (FLOAT32 + width)
    return float(rows * (max(block, tower + features) + pixels))


def rollout_weights(shape: PolicyShape, lora_rank: int, width: int) -> float:
    """A rollout worker's copy, adapters beside it, all in the rollout's dtype: b (N + rank (in + out))"""
    return float(width * (shape.parameters + lora_rank * shape.adapter_width))


def critic_weights(shape: ModelShape, width: int) -> float:
    return float(width * shape.parameters)


def critic_caches(shape: ModelShape, width: int, frames: float, prefixes: float, most: tuple[float, float]) -> float:
    """What the direct engine has kept of a rollout's ``frames`` (b h each of an image's tokens) and ``prefixes`` (keys
    and values of an image and the words before it), each at most ``most`` bytes; UPDATE forgets them."""
    features = frames * shape.image_tokens * shape.text_hidden * width
    keys = prefixes * (shape.image_tokens + PROMPT_TOKENS) * 2 * shape.text_layers * shape.kv_width * width
    return min(most[0], features) + min(most[1], keys)


def critic_batch(shape: ModelShape, batch: int, width: int, on_card: bool) -> float:
    """One batch of pairs on its way: the widest activation four times (gate, up, their product, and what is made of
    it), and the keys and values of all positions (two images and the words each).

    On a card a pass has at most 256 MiB of the widest activation and 2 GiB of keys and values, on a CPU 8 MiB.
    """
    places = batch * (2 * shape.image_tokens + PROMPT_TOKENS)
    widest = min(CARD_PASS if on_card else CPU_PASS, places * shape.text_mlp * width)
    keys = places * 2 * shape.text_layers * shape.kv_width * width
    pictures = batch * shape.image_size**2 * 3 * (FLOAT32 + width)
    return 4 * widest + (min(CARD_KEPT, keys) if on_card else keys) + pictures


def chunks(steps: int, length: int) -> int:
    """Decisions of an episode of ``steps``."""
    return math.ceil(steps / length)
