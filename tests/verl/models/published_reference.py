"""Runs the PUBLISHED modelling code on a tiny random checkpoint and writes what it computes, for the test beside it.

Works in an environment of its own (see docs/policy.md). Nothing of the published code is in this project: it is
imported from checkouts whose paths are given.

    python published_reference.py make CHECKOUTS CHECKPOINT     random weights, saved by the published code
    python published_reference.py run  CHECKOUTS CHECKPOINT IN.npz OUT.npz
    python published_reference.py auto CHECKOUTS CHECKPOINT OUT.npz            by AutoProcessor, AutoModelForVision2Seq
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import torch

OVERRIDES = (
    {"depth": 3, "embed_dim": 48, "num_heads": 3, "mlp_ratio": 2.0},
    {"depth": 4, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2.0},
)
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 32064,
    "pad_token_id": 32000,
}
PROPRIO_DIM = 8


def published(checkouts: Path, name: str) -> types.SimpleNamespace:
    """The modelling modules of one checkout, without running the packages' own start-up code."""
    root, package = {
        "openvla-oft": (checkouts / "openvla-oft" / "prismatic", "prismatic"),
        "SimpleVLA-RL": (checkouts / "SimpleVLA-RL" / "verl/utils/vla_utils/openvla_oft", "published_verl"),
    }[name]
    for suffix in ("", ".extern", ".extern.hf", ".training", ".vla", ".models"):
        module = types.ModuleType(package + suffix)
        module.__path__ = [str(root.joinpath(*suffix.split(".")[1:]))]
        sys.modules[package + suffix] = module
    inner = f"{package}.extern.hf" if name == "openvla-oft" else package
    model = importlib.import_module(f"{inner}.modeling_prismatic")
    _shrink(model)
    return types.SimpleNamespace(
        model=model,
        config=importlib.import_module(f"{inner}.configuration_prismatic"),
        processing=importlib.import_module(f"{inner}.processing_prismatic"),
        projectors=importlib.import_module(f"{package}.models.projectors") if name == "openvla-oft" else model,
    )


def _shrink(model: types.ModuleType) -> None:
    """The only change: timm is asked for the same model names with smaller numbers."""
    create = model.timm.create_model
    sizes = {
        "vit_large_patch14_reg4_dinov2.lvd142m": OVERRIDES[0],
        "vit_so400m_patch14_siglip_224": OVERRIDES[1],
    }
    model.timm = types.SimpleNamespace(
        __version__=model.timm.__version__, create_model=lambda name, **kw: create(name, **kw, **sizes[name])
    )


def make(checkouts: Path, folder: Path) -> None:
    """A checkpoint with random weights, written by ``save_pretrained`` of the published classes (SimpleVLA-RL's)."""
    code = published(checkouts, "SimpleVLA-RL")
    generator = np.random.default_rng(7)
    stats = {
        "demo": {
            "action": _stats(generator, 7),
            "proprio": _stats(generator, PROPRIO_DIM),
            "num_transitions": 1,
        }
    }
    stats["demo"]["action"]["mask"] = [True] * 6 + [False]
    config = code.config.OpenVLAConfig(
        norm_stats=stats,
        n_action_bins=256,
        vision_backbone_id="dinosiglip-vit-so-224px",
        llm_backbone_id="llama2-7b-pure",
        arch_specifier="no-align+fused-gelu-mlp",
        image_resize_strategy="resize-naive",
        text_config=TEXT,
        use_proprio=True,
        proprio_dim=PROPRIO_DIM,
        timm_model_overrides=list(OVERRIDES),
    )
    torch.manual_seed(3)
    model = code.model.OpenVLAForActionPrediction(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.35 if "scale_factor" in name else 1.6 / max(parameter.shape[-1], 8) ** 0.5
            parameter.copy_(torch.randn_like(parameter) * scale + (1.0 if "norm" in name and "weight" in name else 0.0))
    model.save_pretrained(folder, max_shard_size="3MB")
    (folder / "dataset_statistics.json").write_text(json.dumps(stats))
    means, stds = [(0.485, 0.456, 0.406), (0.5,) * 3], [(0.229, 0.224, 0.225), (0.5,) * 3]
    code.processing.PrismaticImageProcessor(
        use_fused_vision_backbone=True,
        image_resize_strategy="resize-naive",
        input_sizes=[(3, 224, 224)] * 2,
        interpolations=["bicubic"] * 2,
        means=means,
        stds=stds,
    ).save_pretrained(folder)


def auto(checkouts: Path, folder: Path, outputs: Path) -> None:
    """What a user of the published layout does: the folder's own code by transformers' Auto classes, one decision."""
    import timm
    from PIL import Image
    from transformers import AutoModelForVision2Seq, AutoProcessor

    holder = types.SimpleNamespace(timm=timm)
    _shrink(holder)
    timm.create_model = holder.timm.create_model
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model, info = AutoModelForVision2Seq.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    if any(info.values()):
        raise RuntimeError(f"the published loader is not content: {info}")
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    inputs = processor("In: What action should the robot take to open the door?\nOut:", Image.fromarray(image))
    ids = torch.cat([inputs["input_ids"], torch.tensor([[29871]])], 1)
    with torch.no_grad():
        logits = model.eval()(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=inputs["pixel_values"],
            proprio=torch.zeros(1, PROPRIO_DIM),
        )
    np.savez(outputs, image=image, ids=ids.numpy(), logits=logits[0, :, -256 - 64 : -64].numpy())


def _stats(generator: np.random.Generator, dim: int) -> dict[str, list[float]]:
    low, high = -generator.uniform(0.2, 1.2, dim), generator.uniform(0.2, 1.2, dim)
    return {
        "q01": low.tolist(),
        "q99": high.tolist(),
        "min": (low - 0.1).tolist(),
        "max": (high + 0.1).tolist(),
    }


def load(code: types.SimpleNamespace, folder: Path) -> torch.nn.Module:
    """The published class with the checkpoint's weights; its loader's warnings become errors."""
    raw = json.loads((folder / "config.json").read_text())
    raw = {k: v for k, v in raw.items() if k not in ("architectures", "auto_map", "model_type", "transformers_version")}
    model, info = code.model.OpenVLAForActionPrediction.from_pretrained(
        folder, config=code.config.OpenVLAConfig(**raw), output_loading_info=True
    )
    ignored = [k for k in info["unexpected_keys"] if not k.startswith("proprio_projector")]
    if info["missing_keys"] or ignored or info["mismatched_keys"]:
        raise RuntimeError(f"the published loader is not content: {info}")
    return model.eval()


def run(checkouts: Path, folder: Path, inputs: Path, outputs: Path) -> None:
    """Logits, actions and log-probabilities by both published codes."""
    from PIL import Image
    from transformers import PreTrainedTokenizerFast

    given = dict(np.load(inputs))
    results: dict[str, np.ndarray] = {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", pad_token="<PAD>"
    )
    oft, rl = published(checkouts, "openvla-oft"), published(checkouts, "SimpleVLA-RL")
    model, policy = load(oft, folder), load(rl, folder)
    policy.norm_stats = json.loads((folder / "dataset_statistics.json").read_text())
    model.norm_stats = policy.norm_stats
    processor = rl.processing.PrismaticImageProcessor.from_pretrained(folder)
    projector = oft.projectors.ProprioProjector(TEXT["hidden_size"], PROPRIO_DIM)
    projector.load_state_dict(policy.proprio_projector.state_dict())
    logits: list[torch.Tensor] = []
    for m in (model, policy):
        m.language_model.register_forward_hook(lambda _m, _a, out: logits.append(out.logits.detach()))

    prompts = [f"In: What action should the robot take to {t}?\nOut:" for t in given["instructions"]]
    for cameras in (1, 2):
        rows, actions, seen = [], [], []
        for m in (model, policy):
            m.vision_backbone.set_num_images_in_input(cameras)
        for i, prompt in enumerate(prompts):
            pixels = [
                processor(Image.fromarray(im), return_tensors="pt")["pixel_values"]
                for im in given["images"][i, :cameras]
            ]
            text = tokenizer(prompt, return_tensors="pt")
            proprio = _normalised(given["proprio"][i], policy.norm_stats["demo"]["proprio"])
            with torch.no_grad():
                action, _ = model.predict_action(
                    input_ids=text["input_ids"],
                    attention_mask=text["attention_mask"],
                    pixel_values=torch.cat(pixels, 1),
                    unnorm_key="demo",
                    proprio=proprio,
                    proprio_projector=projector,
                )
            start = 256 * cameras + 1 + text["input_ids"].shape[1]
            rows.append(logits.pop()[:, start : start + 56][0])
            actions.append(action)
            seen.append(torch.cat(pixels, 1)[0])
        results[f"logits_{cameras}"] = torch.stack(rows).numpy()
        results[f"actions_{cameras}"] = np.stack(actions)
        results[f"pixels_{cameras}"] = torch.stack(seen).numpy()
    results |= _by_simplevla(policy, tokenizer, prompts, torch.from_numpy(results["pixels_2"]), given, logits)
    np.savez(outputs, **results)


def _by_simplevla(policy, tokenizer, prompts, pixels, given, logits) -> dict[str, np.ndarray]:
    """A whole batch with padding through ``generate_action_verl``, and the log-probabilities of its actor."""
    rows = [[*tokenizer(p)["input_ids"], 29871] for p in prompts]
    pad = tokenizer.pad_token_id
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    proprio = np.stack([_normalised(p, policy.norm_stats["demo"]["proprio"]) for p in given["proprio"]])
    shared = {
        "pixel_values": pixels,
        "proprio": torch.from_numpy(proprio).float(),
        "unnorm_key": "demo",
        "padding_idx": pad,
    }
    logits.clear()
    with torch.no_grad():
        actions, tokens = policy.generate_action_verl(
            input_ids=ids, attention_mask=ids.ne(pad).long(), do_sample=False, temperature=1.0, **shared
        )
    out = {"rl_actions": actions, "rl_tokens": tokens.numpy()}
    log_probs, entropy = [], []
    for i, row in enumerate(rows):  # the actor's forward wants equal lengths: one by one
        with torch.no_grad():
            full = policy(
                input_ids=torch.tensor([row]),
                attention_mask=torch.ones(1, len(row)),
                pixel_values=pixels[i : i + 1],
                proprio=shared["proprio"][i : i + 1],
            )
        scaled = torch.log_softmax(full[0, :, -256 - 64 : -64] / given["temperature"].item(), -1)
        log_probs.append(scaled.gather(-1, torch.from_numpy(given["tokens"][i])[:, None] - (32000 - 256))[:, 0])
        entropy.append(-(scaled.exp() * scaled).sum(-1))
    return {**out, "rl_log_probs": torch.stack(log_probs).numpy(), "rl_entropy": torch.stack(entropy).numpy()}


def _normalised(raw: np.ndarray, stats: dict[str, list[float]]) -> np.ndarray:
    """``normalize_proprio`` of the published evaluation code (it lies in a file that needs TensorFlow)."""
    low, high = np.array(stats["q01"]), np.array(stats["q99"])
    return np.clip(2 * (raw - low) / (high - low + 1e-8) - 1, -1.0, 1.0)


if __name__ == "__main__":
    os.environ["ROBOT_PLATFORM"] = "LIBERO"
    sys.argv.append("libero")  # both codes choose their constants by the command line
    command, *paths = [Path(a) if i else a for i, a in enumerate(sys.argv[1:-1])]
    {"make": make, "run": run, "auto": auto}[command](*paths)
