"""Builds a tiny random checkpoint out of the published modelling code; a script for the reference environment.

    python published_checkpoint.py CODE TARGET

CODE is ``internvl_chat/internvl`` of a checkout of OpenGVLab/InternVL. Its files are put flat beside the weights, as
the published checkpoints have them. Nothing of it is part of this project.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import sentencepiece as spm

_FILES = {
    "model/internvl_chat": (
        "configuration_internvl_chat.py",
        "modeling_internvl_chat.py",
        "configuration_intern_vit.py",
        "modeling_intern_vit.py",
    ),
    "model/internlm2": ("configuration_internlm2.py", "modeling_internlm2.py", "tokenization_internlm2.py"),
    "model/phi3": ("configuration_phi3.py", "modeling_phi3.py"),
    ".": ("conversation.py",),
}
_SPECIAL = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
_ADDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
_WORDS = "lift the red cube and place it on plate robot task image score done compare two first closer objectives"


def _code(code: Path, target: Path) -> None:
    for folder, names in _FILES.items():
        for name in names:
            text = (code / folder / name).read_text(encoding="utf-8")
            text = re.sub(r"from internvl\.(?:model\.\w+\.)?(\w+) import", r"from .\1 import", text)
            (target / name).write_text(text, encoding="utf-8")


def _tokenizer(target: Path) -> int:
    """A small BPE like InternLM2's: byte fallback, digits and blanks as they come, no dummy prefix. Returns its
    size."""
    corpus = target / "corpus.txt"
    lines = [_WORDS, "+12 -7 100 0 1 2 3 4 5 6 7 8 9 %", "把 红色 方块 拿 起来", "Compare two images and evaluate"] * 50
    corpus.write_text("\n".join(lines), encoding="utf-8")
    unused = [f"[UNUSED_TOKEN_{i}]" for i in range(len(_SPECIAL) + 2)]
    spm.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(target / "tokenizer"),
        vocab_size=440,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=False,
        user_defined_symbols=unused,
        character_coverage=0.9995,
        hard_vocab_limit=False,
    )
    corpus.unlink()
    processor = spm.SentencePieceProcessor(model_file=str(target / "tokenizer.model"))
    size = processor.get_piece_size()
    ids = {text: processor.piece_to_id(unused[i]) for i, text in enumerate(_SPECIAL)}
    ids.update({text: size + i for i, text in enumerate(_ADDED)})
    ids.update({"<unk>": 0, "<s>": 1, "</s>": 2})
    config = {
        "added_tokens_decoder": {
            str(i): {
                "content": t,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for t, i in ids.items()
        },
        "additional_special_tokens": [*_SPECIAL, *_ADDED],
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "tokenizer_class": "InternLM2Tokenizer",
    }
    (target / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (target / "tokenizer.vocab").unlink()
    return size + len(_ADDED)


def _config(vocab: int) -> dict[str, object]:
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "torch_dtype": "float32",
        "auto_map": {
            "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
            "AutoModel": "modeling_internvl_chat.InternVLChatModel",
            "AutoModelForCausalLM": "modeling_internvl_chat.InternVLChatModel",
        },
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "select_layer": -1,
        "force_image_size": 112,
        "template": "internlm2-chat",
        "dynamic_image_size": True,
        "max_dynamic_patch": 12,
        "use_thumbnail": True,
        "llm_config": {
            "architectures": ["InternLM2ForCausalLM"],
            "model_type": "internlm2",
            "attn_implementation": "eager",
            "hidden_size": 96,
            "intermediate_size": 160,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "vocab_size": vocab,
            "bias": False,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000,
            "rope_scaling": {"factor": 2.0, "type": "dynamic"},
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "torch_dtype": "float32",
        },
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 112,
            "patch_size": 14,
            "num_channels": 3,
            "qkv_bias": True,
            "qk_normalization": False,
            "use_flash_attn": False,
            "hidden_act": "gelu",
            "norm_type": "layer_norm",
            "layer_norm_eps": 1e-6,
            "drop_path_rate": 0.0,
            "initializer_factor": 1.0,
            "torch_dtype": "float32",
        },
    }


def write_settings(target: Path) -> Path:
    """Configuration and tokenizer of the checkpoint, without code and weights."""
    target.mkdir(parents=True)
    vocab = _tokenizer(target)
    (target / "config.json").write_text(json.dumps(_config(vocab)), encoding="utf-8")
    (target / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}), encoding="utf-8")
    return target


def main(code: Path, target: Path) -> None:
    """Writes the whole checkpoint."""
    import torch
    from transformers import AutoConfig, AutoModel

    write_settings(target)
    _code(code, target)
    published = json.loads((target / "config.json").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(target, trust_remote_code=True)
    model = AutoModel.from_config(config, trust_remote_code=True, use_flash_attn=False)
    with torch.no_grad():
        for name, value in model.named_parameters():  # away from the defaults, so that a swapped tensor shows
            if value.ndim > 1:
                value.normal_(std=0.15)
            else:
                value.copy_(torch.randn_like(value) * 0.1 + (1.0 if "norm" in name and "weight" in name else 0.05))
    model.save_pretrained(target, max_shard_size="300KB")
    saved = json.loads((target / "config.json").read_text(encoding="utf-8"))
    saved["auto_map"] = published["auto_map"]  # the plain file names, as the published checkpoints have them
    (target / "config.json").write_text(json.dumps(saved), encoding="utf-8")
    (target / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
