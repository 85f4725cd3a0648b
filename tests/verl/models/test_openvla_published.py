"""Ours against the published modelling code, on a tiny random checkpoint made with that code.

Runs when ``OPENVLA_REFERENCE`` names a folder with the checkouts and ``OPENVLA_REFERENCE_PYTHON`` an interpreter of an
environment that can run them; docs/policy.md says how both are made, and what was measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.export import save_tokenizer
from verl.models.openvla_oft.tiny import make_tokenizer

CHECKOUTS, PYTHON = os.environ.get("OPENVLA_REFERENCE"), os.environ.get("OPENVLA_REFERENCE_PYTHON")
pytestmark = pytest.mark.skipif(
    not (CHECKOUTS and PYTHON), reason="OPENVLA_REFERENCE(_PYTHON) not set; see docs/policy.md"
)
CODE = "SimpleVLA-RL/verl/utils/vla_utils/openvla_oft"
TASKS = ["lift the red cube", "open the door", "pick up the can and place it in the bin"]


def reference(*arguments: object) -> None:
    script = Path(__file__).with_name("published_reference.py")
    fork = Path(str(CHECKOUTS)) / "transformers-fork" / "src"
    path = os.pathsep.join([str(fork), os.environ.get("OPENVLA_REFERENCE_PATH", "")])
    done = subprocess.run(
        [str(PYTHON), str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def make_checkpoint(folder: Path) -> None:
    """Published weights, and a tokenizer with LLaMA-2's three ids that the published code has as constants."""
    reference("make", CHECKOUTS, folder)
    save_tokenizer(make_tokenizer(32000), folder)
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text())
    vocab = raw["model"]["vocab"]
    other = next(piece for piece, i in vocab.items() if i == 29871)
    vocab[other], vocab["▁"] = vocab["▁"], 29871
    path.write_text(json.dumps(raw))


def add_code(folder: Path) -> None:
    """The code and processor files of a published folder, as SimpleVLA-RL's overwrite_vla_ckpt_utils.sh puts them."""
    for name in ("configuration", "modeling", "processing"):
        shutil.copy(Path(str(CHECKOUTS)) / CODE / f"{name}_prismatic.py", folder)
    for name in ("constants.py", "train_utils.py"):
        shutil.copy(Path(str(CHECKOUTS)) / CODE / name, folder)
    processor = {"AutoProcessor": "processing_prismatic.PrismaticProcessor"}
    images = {"AutoImageProcessor": "processing_prismatic.PrismaticImageProcessor"}
    model = {
        "AutoConfig": "configuration_prismatic.OpenVLAConfig",
        "AutoModelForVision2Seq": "modeling_prismatic.OpenVLAForActionPrediction",
    }
    for file, keys in {
        "config.json": {"auto_map": model},
        "preprocessor_config.json": {"auto_map": {**processor, **images}, "processor_class": "PrismaticProcessor"},
        "tokenizer_config.json": {"auto_map": processor, "tokenizer_class": "LlamaTokenizer"},
    }.items():
        raw = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**raw, **keys}))


def compare(folder: Path, scratch: Path) -> dict[str, float]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(TASKS), 2, 256, 256, 3), dtype=np.uint8)
    images[:, :, 64:192, 64:192] //= 4
    proprio = rng.normal(0, 0.6, (len(TASKS), 8)).astype(np.float32)
    tokens = rng.integers(32000 - 256, 32000, (len(TASKS), 56))
    given = dict(images=images, proprio=proprio, tokens=tokens, instructions=np.array(TASKS), temperature=np.array(1.6))
    np.savez(scratch / "in.npz", **given)
    reference("run", CHECKOUTS, folder, scratch / "in.npz", scratch / "out.npz")
    theirs = np.load(scratch / "out.npz")
    worst: dict[str, float] = {}
    for cameras in (1, 2):
        ours = OpenVLAOFTPolicy.from_pretrained(
            folder, num_images_in_input=cameras, gripper_convention="raw", frame_convention="raw"
        )
        with torch.no_grad():
            logits, _ = ours(images[:, :cameras], TASKS, proprio)
        pixels = ours.processor(torch.from_numpy(images[:, :cameras]))
        worst[f"pixels, {cameras} camera(s)"] = float(np.abs(pixels.numpy() - theirs[f"pixels_{cameras}"]).max())
        full = theirs[f"logits_{cameras}"]
        worst[f"logits, {cameras} camera(s)"] = float(np.abs(logits.numpy() - full[..., 32000 - 256 : 32000]).max())
        greedy = full[..., 32000 - 256 : 32000].argmax(-1) + 32000 - 256
        assert (ours.predict(images[:, :cameras], TASKS, proprio, temperature=0).tokens.numpy() == greedy).all()
    output = ours.predict(images, TASKS, proprio, temperature=0)
    assert (output.tokens.numpy() == theirs["rl_tokens"]).all()
    worst["actions (SimpleVLA-RL)"] = float(np.abs(output.actions - theirs["rl_actions"]).max())
    with torch.no_grad():
        evaluated = ours.evaluate(images, TASKS, proprio, torch.from_numpy(tokens), temperature=1.6)
    worst["log-probabilities"] = float(np.abs(evaluated.log_probs.numpy() - theirs["rl_log_probs"]).max())
    worst["entropy"] = float(np.abs(evaluated.entropy.numpy() - theirs["rl_entropy"]).max())
    # OpenVLA-OFT takes its argmax over the whole vocabulary: equal wherever that lands on an action token.
    whole = theirs["logits_2"].argmax(-1)
    inside = (whole >= 32000 - 256) & (whole < 32000)
    same = np.abs(output.actions - theirs["actions_2"]).reshape(len(TASKS), 56)
    worst["actions (OpenVLA-OFT, argmax on an action token)"] = float(same[inside].max()) if inside.any() else 0.0
    worst["spread of the logits (for scale)"] = float(full.std())
    return worst


def test_published_checkpoint_gives_the_same_numbers(tmp_path: Path) -> None:
    """A checkpoint written by the published classes loads as it is and computes what they compute, to 1e-4."""
    make_checkpoint(tmp_path / "published")
    worst = compare(tmp_path / "published", tmp_path)
    for name, value in worst.items():
        print(f"{name}: {value:.3g}")
    assert max(v for k, v in worst.items() if "spread" not in k) < 1e-4, worst


def test_our_export_loads_into_the_published_code(tmp_path: Path) -> None:
    """What ``save_pretrained`` writes is read by the published classes without a missing tensor, with equal numbers."""
    make_checkpoint(tmp_path / "published")
    OpenVLAOFTPolicy.from_pretrained(tmp_path / "published").save_pretrained(tmp_path / "ours")
    worst = compare(tmp_path / "ours", tmp_path)
    assert max(v for k, v in worst.items() if "spread" not in k) < 1e-4, worst


def test_our_export_is_read_by_the_auto_classes(tmp_path: Path) -> None:
    """transformers 4.40.1's AutoProcessor and AutoModelForVision2Seq, by the code that the checkpoint came with: the
    same prompt ids and the same logits."""
    make_checkpoint(tmp_path / "published")
    add_code(tmp_path / "published")
    policy = OpenVLAOFTPolicy.from_pretrained(tmp_path / "published", frame_convention="raw")
    OpenVLAOFTPolicy.save_state(tmp_path / "published", policy.state_dict(), tmp_path / "export")
    policy.save_pretrained(tmp_path / "saved")
    for folder in (tmp_path / "export", tmp_path / "saved"):
        reference("auto", CHECKOUTS, folder, tmp_path / "out.npz")
        theirs = np.load(tmp_path / "out.npz")
        prompts, lengths = policy.prompts(("open the door",))
        assert prompts[0, : lengths[0]].tolist() == theirs["ids"][0].tolist()
        middle = (policy.proprio_bounds.low + policy.proprio_bounds.high)[None] / 2
        with torch.no_grad():
            logits, _ = policy(theirs["image"][None, None], ["open the door"], middle)
        assert np.abs(logits[0].numpy() - theirs["logits"]).max() < 1e-4
