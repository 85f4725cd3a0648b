"""Converting a whole checkpoint folder, one shard in memory at a time.

The target is written to a temporary folder beside it and renamed when complete.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo_vlac.checkpoint import Kind, inspect, read_json
from evo_vlac.convert.config import full_config
from evo_vlac.convert.tokenizer import build_tokenizer
from evo_vlac.convert.weights import convert_tensor
from evo_vlac.errors import CheckpointError, OutputError
from evo_vlac.paths import from_home
from evo_vlac.prompts import CHAT_TEMPLATE

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_LANCZOS = 1
_END_OF_TURN = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Report:
    """What was written."""

    target: Path
    tensors: int
    shards: int


def convert(source: str | Path, target: str | Path) -> Report:
    """Writes the published checkpoint ``source`` as transformers' own InternVL to ``target``, which must not exist.

    Raises CheckpointError (``source`` is not one, or holds what is not known), OutputError.
    """
    from safetensors import SafetensorError

    checkpoint = inspect(source)
    if checkpoint.kind is Kind.NATIVE:
        raise CheckpointError(f"{source} is transformers' own InternVL already; load it as it is")
    final = from_home(target)
    if final.exists():
        raise OutputError(f"{final} exists already; name a new folder")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise OutputError(f"{final} cannot be written: {error}") from error
    try:
        tokenizer = build_tokenizer(checkpoint.path)
        config = full_config(checkpoint.config, tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"))
        _write_settings(folder, checkpoint.path, config, tokenizer)
        tensors, shards = _write_weights(folder, checkpoint.path, config["text_config"])
        _check_whole(folder, config)
        folder.chmod(0o755)
        folder.rename(final)
    except (OSError, SafetensorError) as error:  # the latter on a full disk
        raise OutputError(f"{final} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Report(final, tensors, shards)


def _write_settings(folder: Path, source: Path, config: dict[str, Any], tokenizer: Any) -> None:
    from transformers import InternVLProcessor, InternVLVideoProcessor
    from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor

    height, width = config["vision_config"]["image_size"]
    size = {"height": height, "width": width}
    look = {"size": size, "image_mean": _MEAN, "image_std": _STD}
    images = GotOcr2ImageProcessor(crop_to_patches=True, min_patches=1, max_patches=1, resample=_LANCZOS, **look)
    processor = InternVLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**look),
        image_seq_length=config["image_seq_length"],
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    _write(folder / "config.json", config)
    generation: dict[str, Any] = {}
    if (source / "generation_config.json").is_file():
        generation = read_json(source / "generation_config.json")
        generation.pop("transformers_version", None)
    ends = {config["text_config"]["eos_token_id"], tokenizer.convert_tokens_to_ids(_END_OF_TURN)}
    generation["eos_token_id"] = sorted(end for end in ends if isinstance(end, int))
    generation.setdefault("bos_token_id", config["text_config"]["bos_token_id"])
    generation.setdefault("pad_token_id", config["text_config"]["pad_token_id"])
    _write(folder / "generation_config.json", generation)


def _write_weights(folder: Path, source: Path, text: dict[str, Any]) -> tuple[int, int]:
    from safetensors.torch import save_file

    heads, key_value_heads = text["num_attention_heads"], text["num_key_value_heads"]
    files = sorted(source.glob("*.safetensors")) or sorted(source.glob("pytorch_model*.bin"))
    places: dict[str, str] = {}
    size = 0
    for number, file in enumerate(files, 1):
        name = "model.safetensors" if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        out: dict[str, torch.Tensor] = {}
        for key, tensor in _tensors(file):
            out.update(convert_tensor(key, tensor, heads, key_value_heads))
        save_file({key: tensor.contiguous() for key, tensor in out.items()}, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(out, name))
        size += sum(tensor.numel() * tensor.element_size() for tensor in out.values())
        log.info("%s: %d tensors", name, len(out))
    if len(files) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        _write(folder / "model.safetensors.index.json", index)
    return len(places), len(files)


def _tensors(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    import torch
    from safetensors import SafetensorError, safe_open

    if file.suffix == ".bin":
        yield from torch.load(file, map_location="cpu", mmap=True, weights_only=True).items()
        return
    try:
        with safe_open(file, framework="pt") as shard:
            for key in shard.keys():  # noqa: SIM118  # not a dict
                yield key, shard.get_tensor(key)
    except SafetensorError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _check_whole(folder: Path, config: dict[str, Any]) -> None:
    """Every parameter of the model must have been written, in its shape; compared without allocating any."""
    import torch
    from safetensors import safe_open
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    with torch.device("meta"):
        model = InternVLForConditionalGeneration(InternVLConfig.from_dict(config))
    wanted = {_saved_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as shard:
            found.update({key: tuple(shard.get_slice(key).get_shape()) for key in shard.keys()})  # noqa: SIM118
    wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if wrong:
        detail = ", ".join(f"{key} {found.get(key)} for {wanted.get(key)}" for key in wrong[:4])
        raise CheckpointError(f"{len(wrong)} tensors do not fit the model ({detail}); nothing written")


def _saved_name(name: str) -> str:
    """The name a parameter has in a saved checkpoint."""
    if name.startswith("lm_head."):
        return "language_model." + name
    if name.startswith("model.language_model."):
        return "language_model.model." + name.removeprefix("model.language_model.")
    return name.removeprefix("model.")


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
