"""The published configuration in transformers' own terms."""

from __future__ import annotations

from typing import Any

from evo_vlac.errors import CheckpointError

_TEXT_MODEL = "InternLM2ForCausalLM"


def text_config(source: dict[str, Any]) -> dict[str, Any]:
    """InternLM2's configuration as a LLaMA one: the two compute the same."""
    llm = source.get("llm_config") or {}
    names = llm.get("architectures") or ["nothing"]
    if names[0] != _TEXT_MODEL:
        raise CheckpointError(f"the text model is {names[0]}; this conversion knows {_TEXT_MODEL}")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(llm.get("rope_theta", 10000))}
    scaling = llm.get("rope_scaling")
    if scaling:
        rope.update(rope_type=scaling.get("type") or scaling.get("rope_type"), factor=float(scaling["factor"]))
    heads = int(llm["num_attention_heads"])
    return {
        "model_type": "llama",
        "vocab_size": llm["vocab_size"],
        "hidden_size": llm["hidden_size"],
        "intermediate_size": llm["intermediate_size"],
        "num_hidden_layers": llm["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": llm.get("num_key_value_heads") or heads,
        "head_dim": llm["hidden_size"] // heads,
        "hidden_act": llm.get("hidden_act", "silu"),
        "max_position_embeddings": llm.get("max_position_embeddings", 2048),
        "rms_norm_eps": llm.get("rms_norm_eps", 1e-6),
        "attention_bias": bool(llm.get("bias", False)),
        "mlp_bias": False,
        "rope_parameters": rope,
        "bos_token_id": llm.get("bos_token_id", 1),
        "eos_token_id": llm.get("eos_token_id", 2),
        "pad_token_id": llm.get("pad_token_id", 2),
        "tie_word_embeddings": False,
        "use_cache": True,
    }


def vision_config(source: dict[str, Any]) -> dict[str, Any]:
    """InternViT's configuration."""
    vit = source.get("vision_config") or {}
    size = source.get("force_image_size") or vit["image_size"]
    if size != vit["image_size"]:
        raise CheckpointError(
            f"force_image_size is {size}, the vision model's own {vit['image_size']}; resized position embeddings are "
            "not converted"
        )
    return {
        "model_type": "internvl_vision",
        "hidden_size": vit["hidden_size"],
        "num_hidden_layers": vit["num_hidden_layers"],
        "num_attention_heads": vit["num_attention_heads"],
        "intermediate_size": vit["intermediate_size"],
        "attention_bias": bool(vit.get("qkv_bias", True)),
        "use_qk_norm": bool(vit.get("qk_normalization", False)),
        "hidden_act": vit.get("hidden_act", "gelu"),
        "norm_type": vit.get("norm_type", "layer_norm"),
        "layer_norm_eps": vit.get("layer_norm_eps", 1e-6),
        "image_size": [size, size],
        "patch_size": [vit["patch_size"], vit["patch_size"]],
        "num_channels": vit.get("num_channels", 3),
        "use_absolute_position_embeddings": True,
        "use_mask_token": False,
        "use_mean_pooling": True,
        "layer_scale_init_value": float(vit.get("initializer_factor", 0.1)),
        "hidden_dropout_prob": 0.0,
        "attention_dropout": 0.0,
        "projection_dropout": 0.0,
    }


def full_config(source: dict[str, Any], image_token_id: int) -> dict[str, Any]:
    """The whole config.json."""
    if source.get("ps_version") != "v2":
        raise CheckpointError(f"ps_version is {source.get('ps_version')!r}; transformers' own model does 'v2'")
    ratio = float(source.get("downsample_ratio", 0.5))
    vision = vision_config(source)
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "downsample_ratio": ratio,
        "dtype": source.get("torch_dtype") or source.get("dtype") or "bfloat16",
        "image_seq_length": image_tokens(vision, ratio),
        "image_token_id": image_token_id,
        "projector_hidden_act": "gelu",
        "text_config": text_config(source),
        "vision_config": vision,
        "vision_feature_layer": source.get("select_layer", -1),
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
    }


def image_tokens(vision: dict[str, Any], ratio: float) -> int:
    """Visual tokens of one tile."""
    return int((vision["image_size"][0] // vision["patch_size"][0]) ** 2 * ratio**2)
