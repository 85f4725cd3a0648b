"""Checkpoints as people have them: which parts are read, which are left alone, which are refused."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from verl.errors import ConfigError
from verl.models.openvla_oft import CheckpointError, OpenVLAOFTPolicy
from verl.models.openvla_oft.lora import merged
from verl.models.openvla_oft.prompts import TEMPLATE, Prompts
from verl.trainer.load_config import load_config
from verl.trainer.preflight import preflight

Observations = tuple[np.ndarray, list[str], np.ndarray]
TEXTS = [
    "lift the red cube",
    "open the top drawer and put the bowl inside",
    "pick up the  café's “mug” №7 (left)",
]


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


# ---- tokenizer.model


@pytest.fixture(scope="module")
def sentencepiece_model() -> bytes:
    """Trained with LLaMA's settings on a few instructions."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEMPLATE.format(instruction=text) for text in TEXTS[:2]] * 50),
        model_writer=made,
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=3,
    )
    return made.getvalue()


@pytest.mark.parametrize("config", [None, {"tokenizer_class": "LlamaTokenizer", "legacy": False}])
def test_a_tokenizer_model_alone_gives_sentencepieces_ids(
    tmp_path: Path, sentencepiece_model: bytes, config: dict[str, object] | None
) -> None:
    """After ``<s>``; blanks, bytes and line breaks too. What lies beside the file changes nothing."""
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    pieces = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    prompts = Prompts(tmp_path, 32064)
    for text in TEXTS:
        expected = [1, *pieces.encode(TEMPLATE.format(instruction=text))]
        assert list(prompts._tokenize(text))[: len(expected)] == expected


def test_the_padding_token_keeps_its_id(tmp_path: Path, sentencepiece_model: bytes) -> None:
    """OpenVLA adds ``<PAD>`` after LLaMA's pieces."""
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)
    size = len(sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<PAD>": size}))
    assert Prompts(tmp_path, 32064).tokenizer.convert_tokens_to_ids("<PAD>") == size


# ---- the proprio projector


def test_a_proprio_projector_that_is_not_used_is_left_alone(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, observations: Observations
) -> None:
    """OpenVLA-OFT's LIBERO folders have the file, and a config.json that does not speak of it: one line says so. Where
    the configuration asks for it, it is used."""
    whole = OpenVLAOFTPolicy.from_pretrained(checkpoint)
    whole.save_pretrained(tmp_path / "oft", proprio_file=True)
    raw = json.loads((tmp_path / "oft" / "config.json").read_text())
    del raw["use_proprio"]
    (tmp_path / "oft" / "config.json").write_text(json.dumps(raw))
    with caplog.at_level(logging.INFO):
        plain = OpenVLAOFTPolicy.from_pretrained(tmp_path / "oft")
    assert plain.proprio_projector is None
    assert [r.getMessage() for r in caplog.records if "proprio projector is not used" in r.getMessage()]
    again = OpenVLAOFTPolicy.from_pretrained(tmp_path / "oft", use_proprio=True)
    assert torch.equal(again(*observations)[0], whole(*observations)[0])


# ---- other kinds of policy


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("action_head--150000_checkpoint.pt", "L1 regression or diffusion head"),
        ("noisy_action_projector--latest_checkpoint.pt", "diffusion head"),
        ("vision_backbone--150000_checkpoint.pt", "FiLM"),
    ],
)
def test_another_kind_of_policy_is_refused_before_anything_starts(copy: Path, name: str, words: str) -> None:
    """With what to use instead: its token logits were never trained, so a run would see no success and no signal."""
    torch.save({"module.fc1.weight": torch.zeros(2, 2)}, copy / name)
    config, _ = load_config([f"actor_rollout_ref.model.path={copy}", "actor_rollout_ref.rollout.unnorm_key=lift"])
    with pytest.raises(ConfigError, match=f"actor_rollout_ref.model.path=.*{name}: .*{words}.*SimpleVLA-RL's SFT"):
        preflight(config)
    with pytest.raises(CheckpointError, match=words):
        OpenVLAOFTPolicy.from_pretrained(copy)


# ---- LoRA adapters


@pytest.fixture
def adapted(copy: Path, tmp_path: Path) -> tuple[Path, OpenVLAOFTPolicy]:
    """What OpenVLA-OFT's finetune.py leaves without the merge, on the base ``copy``; and the policy that peft makes."""
    policy = OpenVLAOFTPolicy.from_pretrained(copy)
    targets = [
        n
        for n, m in policy.named_modules()
        if type(m) is nn.Linear and not n.startswith(("proprio", "language_model.lm"))
    ]
    given = get_peft_model(policy, LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights="gaussian"))
    torch.manual_seed(0)
    for parameter_name, parameter in given.named_parameters():
        if "lora_" in parameter_name:
            nn.init.normal_(parameter, std=0.2)
    folder = tmp_path / "unmerged"
    given.save_pretrained(folder / "lora_adapter")
    settings = folder / "lora_adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": str(copy)}))
    shutil.copyfile(copy / "dataset_statistics.json", folder / "dataset_statistics.json")
    return folder, given.merge_and_unload()


def test_an_adapter_instead_of_merged_weights_is_applied(
    adapted: tuple[Path, OpenVLAOFTPolicy], observations: Observations
) -> None:
    """To the base that it names; configuration, processor and tokenizer come from there where the folder has none."""
    folder, merged = adapted
    policy = OpenVLAOFTPolicy.from_pretrained(folder)
    config, _ = load_config([f"actor_rollout_ref.model.path={folder}", "actor_rollout_ref.rollout.unnorm_key=lift"])
    preflight(config)
    with torch.no_grad():
        assert torch.allclose(policy(*observations)[0], merged(*observations)[0], atol=1e-4)
        base = OpenVLAOFTPolicy.from_pretrained(folder.parent / "copy")(*observations)[0]
    assert not torch.allclose(policy(*observations)[0], base, atol=1e-2)


def test_an_adapter_beside_merged_weights_is_not_applied_twice(
    adapted: tuple[Path, OpenVLAOFTPolicy], tmp_path: Path, observations: Observations
) -> None:
    """The merge leaves lora_adapter/ where it is."""
    folder, _ = adapted
    OpenVLAOFTPolicy.from_pretrained(folder).save_pretrained(tmp_path / "merged")
    expected = OpenVLAOFTPolicy.from_pretrained(tmp_path / "merged")(*observations)[0]
    shutil.copytree(folder / "lora_adapter", tmp_path / "merged" / "lora_adapter")
    assert torch.equal(OpenVLAOFTPolicy.from_pretrained(tmp_path / "merged")(*observations)[0], expected)


def test_an_adapter_whose_base_is_nowhere_is_refused(adapted: tuple[Path, OpenVLAOFTPolicy]) -> None:
    """With what to do."""
    folder, _ = adapted
    settings = folder / "lora_adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": "nobody/nothing"}))
    with pytest.raises(CheckpointError, match=r"'nobody/nothing' is neither a folder.*merge_lora_weights_and_save"):
        OpenVLAOFTPolicy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "LOHA"}, "peft_type=LOHA"),
        ({"alpha_pattern": {"q": 1}}, "alpha"),
    ],
)
def test_another_kind_of_adapter_is_refused(
    adapted: tuple[Path, OpenVLAOFTPolicy], changes: dict[str, object], said: str
) -> None:
    """It says what is not plain LoRA."""
    folder, _ = adapted
    settings = folder / "lora_adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=rf"cannot be applied: {said}\S* in adapter_config.json"):
        OpenVLAOFTPolicy.from_pretrained(folder)


# ---- the export

CODE = ("modeling_prismatic.py", "configuration_prismatic.py", "processing_prismatic.py", "train_utils.py")
PROCESSOR = ("processor_config.json", "tokenizer.model", "special_tokens_map.json", "generation_config.json")


def test_an_export_keeps_code_and_processor_files_and_no_stale_weights(copy: Path, tmp_path: Path) -> None:
    """A reader of the published layout finds what it had, and no tensors but the new ones."""
    for name in (*CODE, *PROCESSOR):
        (copy / name).write_text(name)
    for name in ("model-00001-of-00002.safetensors", "pytorch_model-00001-of-00002.bin", "training_args.bin"):
        (copy / name).write_bytes(b"old")
    state = OpenVLAOFTPolicy.from_pretrained(copy).state_dict()
    target = tmp_path / "export"
    target.mkdir()
    (target / "pytorch_model.bin.index.json").write_text("{}")
    (target / "model-00001-of-00009.safetensors").write_bytes(b"old")
    OpenVLAOFTPolicy.save_state(copy, state, target)
    names = {path.name for path in target.iterdir()}
    assert names >= {*CODE, *PROCESSOR, "config.json", "preprocessor_config.json", "tokenizer.json"}
    assert {name for name in names if name.endswith((".safetensors", ".bin", ".index.json"))} == {"model.safetensors"}
    assert load_file(target / "model.safetensors").keys() == state.keys()
    OpenVLAOFTPolicy.from_pretrained(copy).save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} >= {*CODE, *PROCESSOR}


def test_an_adapters_export_is_a_whole_checkpoint(
    adapted: tuple[Path, OpenVLAOFTPolicy], tmp_path: Path, observations: Observations
) -> None:
    """Merged, with the base's files."""
    folder, _ = adapted
    policy = OpenVLAOFTPolicy.from_pretrained(folder)
    OpenVLAOFTPolicy.save_state(folder, policy.state_dict(), tmp_path / "export")
    again = OpenVLAOFTPolicy.from_pretrained(tmp_path / "export")
    assert again.source == tmp_path / "export" and not (tmp_path / "export" / "lora_adapter").exists()
    assert torch.equal(again(*observations)[0], policy(*observations)[0])


def test_a_merge_into_a_bfloat16_base_keeps_small_changes(copy: Path) -> None:
    """The learner's frozen weights may be bfloat16: an adapter's change under half a step of it is in the export."""
    save_file({n: t.bfloat16() for n, t in load_file(copy / "model.safetensors").items()}, copy / "model.safetensors")
    policy = OpenVLAOFTPolicy.from_pretrained(copy, dtype=torch.bfloat16)
    policy.add_lora(rank=2, alpha=2)
    state = policy.state_dict()
    name = "language_model.model.layers.0.mlp.up_proj"
    state = {n: t.float() if ".lora_" in n else t for n, t in state.items()}
    state[f"{name}.lora_A.default.weight"].fill_(1e-3)
    state[f"{name}.lora_B.default.weight"].fill_(1e-3)
    change = merged(state)[f"{name}.weight"].float() - state[f"{name}.base_layer.weight"].float()
    assert torch.allclose(change, torch.full_like(change, 2e-6), rtol=0.1)
