"""The published layout: what loads, what is refused, and in which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from verl.models.openvla_oft import CheckpointError, ConfigError, NormStatsError, OpenVLAOFTPolicy
from verl.models.openvla_oft import checkpoint as files
from verl.models.openvla_oft.tiny import make_policy, unit_stats

Observations = tuple[np.ndarray, list[str], np.ndarray]


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def edit_json(path: Path, **changes: object) -> None:
    raw = json.loads(path.read_text())
    raw.update(changes)
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))


def test_saved_and_loaded_policies_agree(checkpoint: Path, tmp_path: Path, observations: Observations) -> None:
    """A checkpoint written in shards and read back gives the same numbers bit for bit."""
    policy = OpenVLAOFTPolicy.from_pretrained(checkpoint)
    policy.save_pretrained(tmp_path / "again")
    files.write(tmp_path / "again", policy.state_dict(), shard_size="100KB")
    assert len(list((tmp_path / "again").glob("model-*-of-*.safetensors"))) > 2
    again = OpenVLAOFTPolicy.from_pretrained(tmp_path / "again")
    assert torch.equal(policy(*observations)[0], again(*observations)[0])


def test_parameters_have_the_published_names(checkpoint: Path) -> None:
    """Names as in OpenVLA's index file; LayerScale is ``scale_factor`` there."""
    names = set(load_file(checkpoint / "model.safetensors"))
    for name in (
        "vision_backbone.featurizer.blocks.0.ls1.scale_factor",
        "vision_backbone.featurizer.reg_token",
        "vision_backbone.fused_featurizer.attn_pool.latent",
        "vision_backbone.fused_featurizer.blocks.1.mlp.fc1.bias",
        "projector.fc3.weight",
        "language_model.model.layers.1.self_attn.q_proj.weight",
        "language_model.lm_head.weight",
        "proprio_projector.fc1.weight",
    ):
        assert name in names


def test_the_proprio_projector_may_lie_in_its_own_file(
    checkpoint: Path, tmp_path: Path, observations: Observations
) -> None:
    """OpenVLA-OFT's ``proprio_projector--*_checkpoint.pt`` is written on request, and read."""
    policy = OpenVLAOFTPolicy.from_pretrained(checkpoint)
    policy.save_pretrained(tmp_path / "oft", proprio_file=True)
    assert not any("proprio" in name for name in load_file(tmp_path / "oft" / "model.safetensors"))
    again = OpenVLAOFTPolicy.from_pretrained(tmp_path / "oft")
    assert torch.equal(policy(*observations)[0], again(*observations)[0])
    OpenVLAOFTPolicy.save_state(tmp_path / "oft", again.state_dict(), tmp_path / "next")
    assert (tmp_path / "next" / "proprio_projector--latest_checkpoint.pt").exists()


def test_missing_extra_and_misshapen_tensors_are_named(copy: Path) -> None:
    """One error, with the names."""
    tensors = load_file(copy / "model.safetensors")
    tensors["ghost.weight"] = tensors.pop("projector.fc1.bias")
    tensors["projector.fc2.bias"] = torch.zeros(3)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        OpenVLAOFTPolicy.from_pretrained(copy)
    message = str(error.value)
    assert "misses 1 tensors (projector.fc1.bias)" in message
    assert "ghost.weight" in message
    assert "projector.fc2.bias is (3,)" in message
    assert "\n" not in message


def test_missing_and_broken_files_are_named(copy: Path) -> None:
    """Weights cut short, no tokenizer, no processor, no checkpoint: one line each that names the file."""
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        OpenVLAOFTPolicy.from_pretrained(copy)
    weights.unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        OpenVLAOFTPolicy.from_pretrained(copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        OpenVLAOFTPolicy.from_pretrained(copy)
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json is missing"):
        OpenVLAOFTPolicy.from_pretrained(copy)
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        OpenVLAOFTPolicy.from_pretrained(copy / "nowhere")


def test_a_shard_that_the_index_names_but_is_not_there(copy: Path) -> None:
    """The missing shard is named before anything is loaded."""
    tensors = load_file(copy / "model.safetensors")
    files.write(copy, tensors, shard_size="100KB")
    gone = sorted(copy.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=gone.name):
        OpenVLAOFTPolicy.from_pretrained(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llava"}, "model_type: 'llava', but only openvla"),
        ({"action_proprio_normalization_type": "z"}, "action_proprio_normalization_type: 'z'"),
        ({"num_images_in_input": 0}, "num_images_in_input: 0"),
        ({"action_dim": 14}, "action_dim: 14, but norm_stats of lift have 7"),
        ({"timm_model_ids": ["vit_nonsense", "vit_so400m_patch14_siglip_224"]}, "'vit_nonsense' cannot be built"),
        ({"image_sizes": None}, "image_sizes: missing"),
    ],
)
def test_bad_keys_of_the_configuration_are_named(copy: Path, changes: dict[str, object], words: str) -> None:
    """Each names the key, the value and what is allowed."""
    edit_json(copy / "config.json", **changes)
    with pytest.raises(ConfigError, match=words):
        OpenVLAOFTPolicy.from_pretrained(copy)


def test_norm_stats_without_the_key(checkpoint: Path) -> None:
    """The key and the keys there are, in one line."""
    with pytest.raises(NormStatsError, match=r"unnorm_key: 'libero_10' .* \['lift'\]"):
        OpenVLAOFTPolicy.from_pretrained(checkpoint, unnorm_key="libero_10")


def test_a_value_head_is_new_or_read(checkpoint: Path, tmp_path: Path, observations: Observations) -> None:
    """New heads say 0; a saved one is read back; a policy without one ignores the file."""
    policy = OpenVLAOFTPolicy.from_pretrained(checkpoint, value_head=True)
    assert policy(*observations)[1].tolist() == [0.0, 0.0, 0.0]
    with torch.no_grad():
        policy.value_head.fc2.bias.fill_(0.5)
    policy.save_pretrained(tmp_path / "ppo")
    assert OpenVLAOFTPolicy.from_pretrained(tmp_path / "ppo", value_head=True)(*observations)[1].tolist() == [0.5] * 3
    assert OpenVLAOFTPolicy.from_pretrained(tmp_path / "ppo")(*observations)[1] is None


def test_several_cameras_need_no_other_weights(tmp_path: Path) -> None:
    """``num_images_in_input=2`` loads the same tensors, takes two images and refuses one."""
    from tests.verl.models.conftest import SIZE

    make_policy(tmp_path / "one", SIZE, {"lift": unit_stats(7, 8)}, proprio_dim=0)
    policy = OpenVLAOFTPolicy.from_pretrained(tmp_path / "one", num_images_in_input=2)
    images = np.zeros((1, 2, 56, 56, 3), np.uint8)
    assert policy.predict(images, ["lift the red cube"]).actions.shape == (1, 8, 7)
    with pytest.raises(Exception, match="1 cameras, but num_images_in_input is 2"):
        policy.predict(images[:, :1], ["lift the red cube"])
