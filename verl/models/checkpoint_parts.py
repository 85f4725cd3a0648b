"""Which files of an OpenVLA-OFT folder are what, and which of them can be used. Reads names only; imports no torch.

model*.safetensors, *.index.json     the policy's tensors: LoRA merged, where the folder also has lora_adapter/
lora_adapter/                        without tensors beside it: OpenVLA-OFT's fine-tuning before its merge; applied to
                                     the base checkpoint that its adapter_config.json names
proprio_projector--*_checkpoint.pt   used where the policy sees proprioception, else left alone
value_head.safetensors               ours, with PPO
action_head--*, noisy_action_projector--*, vision_backbone--*.pt     another kind of policy: refused
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from evo_vlac.paths import from_home

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
VALUE_HEAD = "value_head.safetensors"
ADAPTER = "lora_adapter"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_TENSORS = "adapter_model.safetensors"
WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".index.json")

_INSTEAD = (
    "use a checkpoint that was trained on discrete action tokens: one of SimpleVLA-RL's SFT models "
    "(huggingface.co/collections/Haozhan72/simplevla-rl-6833311430cd9df52aeb1f86), or OpenVLA-OFT's finetune.py with "
    "--use_l1_regression False --use_diffusion False --use_film False"
)
_OTHER_KINDS = {
    "action_head--": "its actions come from an L1 regression or diffusion head; its token logits were never trained",
    "noisy_action_projector--": "its actions come from a diffusion head; its token logits were never trained",
    "vision_backbone--": "its vision backbone has FiLM, which is not here",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a checkpoint's folder holds.

    Attributes:
        folder: the folder itself.
        base: the folder of the tensors: ``folder``, or the adapter's base.
        adapter: the LoRA adapter that is applied to ``base``, or None.
        proprio: the files of proprio projectors.
        problem: why it cannot be used, and what to do, in one line; None where it can.
    """

    folder: Path
    base: Path
    adapter: Path | None
    proprio: tuple[Path, ...]
    problem: str | None = None

    @property
    def config(self) -> Path:
        """The policy's config.json."""
        return self.file("config.json")

    def file(self, name: str) -> Path:
        """``name`` in the folder itself, else in the base."""
        own = self.folder / name
        return own if own.exists() else self.base / name


def find_parts(folder: Path) -> Parts:
    """Sorts the files of ``folder``. Raises nothing: what is wrong is in ``problem``."""
    proprio = tuple(sorted(folder.glob("proprio_projector--*checkpoint.pt")))
    for prefix, reason in _OTHER_KINDS.items():
        if found := sorted(p.name for p in folder.glob(f"{prefix}*")):
            return Parts(folder, folder, None, proprio, f"it has {found[0]}: {reason}; {_INSTEAD}")
    adapter = folder / ADAPTER
    if has_tensors(folder) or not (adapter / ADAPTER_CONFIG).is_file():
        return Parts(folder, folder, None, proprio)
    base, problem = _base(folder, adapter)
    return Parts(folder, base or folder, adapter, proprio, problem)


def has_tensors(folder: Path) -> bool:
    """Whether the folder holds a policy's tensors."""
    return (folder / INDEX).is_file() or (folder / SINGLE).is_file()


def part_files(folder: Path) -> list[Path]:
    """The files that a reader takes for the policy's weights, ours and those that are refused."""
    patterns = ("model*.safetensors", "pytorch_model*.bin", "*model*.index.json", "proprio_projector--*", VALUE_HEAD)
    return sorted({p for pattern in (*patterns, *(f"{k}*" for k in _OTHER_KINDS)) for p in folder.glob(pattern)})


def is_weights(path: Path) -> bool:
    """Whether a file of a checkpoint holds tensors, or says where they lie. ``tokenizer.model`` does not."""
    return path.name.endswith(WEIGHT_ENDINGS)


def _base(folder: Path, adapter: Path) -> tuple[Path | None, str | None]:
    """The base checkpoint of an adapter: a folder, or a repository in Hugging Face's cache; nothing is downloaded."""
    try:
        name = str(json.loads((adapter / ADAPTER_CONFIG).read_text())["base_model_name_or_path"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        return None, f"{ADAPTER}/{ADAPTER_CONFIG} names no base_model_name_or_path ({error!r})"
    for place in (from_home(name), folder / name, adapter / name):
        if place.is_dir() and has_tensors(place):
            return place, None
    if cached := _in_cache(name):
        return cached, None
    return None, (
        f"it has {ADAPTER}/ without merged weights, and the adapter's base {name!r} is neither a folder here nor in "
        f"Hugging Face's cache: set base_model_name_or_path in {ADAPTER}/{ADAPTER_CONFIG} to the base checkpoint's "
        "folder, or merge with OpenVLA-OFT's merge_lora_weights_and_save.py"
    )


def _in_cache(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        place = Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None
    return place if has_tensors(place) else None
