"""Models of a given shape with random weights."""

from __future__ import annotations

from typing import Any

from evo_vlac.model_shape import VLAC_2B, ModelShape
from evo_vlac.tiny.model import MEAN, STD, TinyConfig, build_processor

SHAPES = {
    "vlac-2b": VLAC_2B,
    "small": ModelShape(448, 4, 384, 6, 1536, 8, 512, 8, 512, 2048, 1_400),
    "tiny": ModelShape(112, 4, 128, 4, 512, 3, 192, 6, 192, 512, 1_400),
}


def build(shape: ModelShape, device: Any, dtype: Any, seed: int = 0) -> tuple[Any, Any]:
    """(model, processor) with random weights, made where they are to run."""
    import torch
    from transformers import GenerationConfig, InternVLForConditionalGeneration

    processor = build_processor(TinyConfig(image_size=shape.image_size))
    config = _internvl_config(shape, processor)
    torch.manual_seed(seed)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = InternVLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(previous)
    tokenizer = processor.tokenizer
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=False, **ends)  # type: ignore[no-untyped-call]
    return model.train(False), processor


def _internvl_config(shape: ModelShape, processor: Any) -> Any:
    from transformers import InternVLConfig, LlamaConfig
    from transformers.models.internvl.configuration_internvl import InternVLVisionConfig

    text = LlamaConfig(
        vocab_size=max(shape.vocabulary, len(processor.tokenizer)),
        hidden_size=shape.text_hidden,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.kv_width * shape.text_heads // shape.text_hidden,
        max_position_embeddings=32_768,
        tie_word_embeddings=False,
    )
    vision = InternVLVisionConfig(
        hidden_size=shape.vision_hidden,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        intermediate_size=shape.vision_mlp,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        attention_bias=True,
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        image_seq_length=shape.image_tokens,
        tie_word_embeddings=False,
    )


STATISTICS = (MEAN, STD)
